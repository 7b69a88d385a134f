// The token, once; the browser keeps what it gets for it in a cookie that no script reads.

import { tell } from "./api.js";
import { byId } from "./dom.js";

async function enter(token) {
  try {
    await tell("/login", { token });
    location.assign("/");
  } catch (error) {
    byId("refusal").textContent = error.message;
  }
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(byId("token").value);
});
// The address that the page printed holds it behind the #, which is sent to nobody.
const told = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);
if (told) enter(told);
