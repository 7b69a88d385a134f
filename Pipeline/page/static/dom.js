// Elements, made of values and never of markup: whatever a message holds stays text.

/** Make an element; children are elements or texts. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

/** Make an element of SVG. */
export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/**
 * Bring a list up to date, keeping the elements that stay: so focus, selection and what a screen
 * reader has just read stay too. `make` gets an item; `same` tells what an element was made of.
 */
export function refresh(list, items, keyOf, make) {
  const before = new Map([...list.children].map((each) => [each.dataset.key, each]));
  const wanted = items.map((item) => {
    const key = keyOf(item);
    const made = JSON.stringify(item);
    const old = before.get(key);
    if (old && old.dataset.made === made) return old;
    const fresh = make(item);
    fresh.dataset.key = key;
    fresh.dataset.made = made;
    const focused = old?.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    if (focused) queueMicrotask(() => fresh.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus());
    return fresh;
  });
  list.replaceChildren(...wanted);
}

/** A picture that may be missing: then a word stands in its place. */
export function picture(source, description, otherwise = "no picture", kind = "") {
  const image = el("img", { src: source, alt: description, class: `picture ${kind}`, loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "no-picture" }, otherwise)));
  return image;
}
