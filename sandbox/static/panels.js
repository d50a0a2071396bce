// Shows a request, its answer and the tokens of both.
import { badge, el, fill, find, json } from "./dom.js";
import { asText, header, parsed } from "./http.js";
import { expiry, hasExpired, read, show } from "./jwt.js";
import { known } from "./catalogue.js";

const UNKNOWN = "This answer is not in the catalogue.";
const NO_ANSWER = "No answer reached this page: the service is not running, or CORS_ALLOWED_ORIGINS does not list this page’s origin.";

const long = (text) => (text.length > 1200 ? `${text.slice(0, 1200)}… (${text.length} characters)` : text);

export function showRequest(request) {
  const { head, body } = asText(request);
  const [line, ...headers] = head.split("\n");
  const rows = headers.flatMap((row) => {
    const [name, ...value] = row.split(": ");
    return ["\n", el("span", { class: "k" }, name), `: ${value.join(": ")}`];
  });
  fill(find("request"), el("span", { class: "b" }, line), ...rows, body && `\n\n${long(body)}`);
  showPatientToken(request.headers.Authorization?.replace(/^Bearer /, ""));
}

function showPatientToken(token) {
  const parts = read(token);
  find("jwt-state").hidden = !parts;
  if (!parts) return fill(find("jwt"), el("p", { class: "empty" }, "This request has no token."));
  show(find("jwt"), token, parts);
  return parts.claims.exp === undefined
    ? badge(find("jwt-state"), "no expiry", "warn")
    : badge(find("jwt-state"), expiry(parts.claims.exp), hasExpired(parts) ? "bad" : "good");
}

export function showAnswer(answer, expected) {
  const body = parsed(answer);
  const state = answer.status === 200 ? "good" : answer.status >= 500 || !answer.status ? "bad" : "warn";
  badge(find("badge"), answer.status ? `${answer.status} ${body?.error?.code ?? "OK"}` : "no answer", state);
  showVerdict(answer, body, expected);
  showTiming(answer);
  find("headers-part").hidden = find("body").hidden = false;
  fill(find("headers"), ...answer.headers.flatMap(([name, value], i) => [i ? "\n" : "", el("span", { class: "k" }, name), `: ${value}`]));
  fill(find("body"), ...(body === undefined ? [answer.text || answer.reason] : json(body)));
  showCredential(body?.data);
}

function showVerdict(answer, body, expected) {
  const entry = known(answer.status, body);
  const retry = header(answer, "retry-after");
  const surprise = expected && entry !== expected && `The catalogue expected ${expected.status} ${expected.code} here.`;
  fill(
    find("verdict"),
    el("p", { class: "head" }, entry?.means ?? (answer.status ? UNKNOWN : NO_ANSWER)),
    el("p", { class: "todo" }, `What the app does: ${entry?.app ?? "nothing; fix the cause."}`),
    ...(retry ? [el("p", { class: "todo" }, `Retry-After: ${retry} s`)] : []),
    ...(surprise ? [el("p", { class: "surprise" }, surprise)] : []),
  );
}

function showTiming(answer) {
  const inside = Number(/(?:^|[ ,])total;dur=([\d.]+)/.exec(header(answer, "server-timing") ?? "")?.[1] ?? NaN);
  const all = answer.milliseconds;
  find("timing").hidden = false;
  const share = Number.isNaN(inside) ? 0 : Math.max(1, Math.min(100, (inside / all) * 100));
  find("bar-server").style.width = `${share}%`;
  find("bar-way").style.width = `${100 - share}%`;
  const service = Number.isNaN(inside) ? "" : `, of which ${inside} ms in the service`;
  find("timing-text").textContent = `${all.toFixed(1)} ms in total${service}`;
}

function showCredential(data) {
  const parts = read(data?.apiKey);
  find("credential-state").hidden = !data;
  if (!data) return fill(find("credential"), el("p", { class: "empty" }, "This answer has no credential."));
  badge(find("credential-state"), parts ? expiry(parts.claims.exp) : "does not expire", parts ? "good" : "warn");
  if (parts) return show(find("credential"), data.apiKey, parts);
  return fill(
    find("credential"),
    el("pre", { class: "raw", tabindex: 0, "aria-label": "The key" }, data.apiKey),
    el("ul", { class: "facts" },
      el("li", {}, "Vapi’s public key: the same for every patient, not secret, and not a JWT"),
      el("li", {}, "restrict it to this assistant and your origins in Vapi’s dashboard"),
      el("li", {}, "session tokens have these restrictions by themselves")),
  );
}
