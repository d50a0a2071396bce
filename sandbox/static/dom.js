// Helpers that build the page. They insert text as text, never as HTML.

export const find = (id) => document.getElementById(id);

/** Create an element: `el("li", { class: "x" }, "text", otherElement)`. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export const fill = (node, ...children) => node.replaceChildren(...children);

/** Show a badge with a state of `good`, `warn`, `bad` or none. */
export function badge(node, text, state = "") {
  node.hidden = false;
  node.dataset.state = state;
  node.textContent = text;
}

const PIECES = /("(?:\\.|[^"\\])*")(\s*:)?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\b(?:true|false|null)\b/g;

/** Pretty-print a value as JSON with coloured keys, strings and numbers. */
export function json(value) {
  const text = JSON.stringify(value, null, 2);
  const out = [];
  let end = 0;
  for (const match of text.matchAll(PIECES)) {
    const [whole, string, colon] = match;
    out.push(text.slice(end, match.index));
    if (colon) out.push(el("span", { class: "k" }, string), colon);
    else out.push(el("span", { class: string ? "s" : "n" }, whole));
    end = match.index + whole.length;
  }
  return [...out, text.slice(end)];
}

/** Describe an instant (seconds since the epoch) by its distance from now. */
export function fromNow(seconds) {
  const away = Math.round(seconds - Date.now() / 1000);
  const size = Math.abs(away);
  if (size < 2) return "just now";
  const text = size < 120 ? `${size} s` : size < 7200 ? `${Math.round(size / 60)} min` : `${Math.round(size / 3600)} h`;
  return away >= 0 ? `in ${text}` : `${text} ago`;
}
