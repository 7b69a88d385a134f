// Questions and commands to the server. What it refuses becomes an Error with its words.

const forgery = document.querySelector('meta[name="forgery"]').content;

async function answer(response) {
  // There the words are shown.
  if (response.status === 401 && location.pathname !== "/login") location.assign("/login");
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.error ?? `the page answers ${response.status}`);
  return told;
}

export async function ask(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null);
  return answer(await fetch(`${path}?${new URLSearchParams(given)}`));
}

export async function tell(path, body, type = "application/json") {
  const data = type === "application/json" ? JSON.stringify(body) : body;
  const headers = { "content-type": type, "x-page-forgery": forgery };
  return answer(await fetch(path, { method: "POST", body: data, headers }));
}
