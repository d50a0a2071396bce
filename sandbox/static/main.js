// The page: the choices, the catalogue, sending, and what developers look at.
import { badge, el, fill, find } from "./dom.js";
import { asCurl, parsed, send } from "./http.js";
import { CATALOGUE } from "./catalogue.js";
import { FAILURES, node, press } from "./story.js";
import * as lab from "./lab.js";
import { showAnswer, showRequest } from "./panels.js";
import { call, loadSdk } from "./call.js";
import { ATTACKS, callTool } from "./tools.js";

const { config } = lab;
const narrow = matchMedia("(max-width: 959px)");
const results = new Map();
let request;
let session;
let callId;

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const patient = () => config.patients.find(({ id }) => id === chosen("patient"));

/** What the patient agreed to, version by name. */
const consent = () => Object.fromEntries([...document.querySelectorAll("#consents input:checked")].map(({ value }) => value.split("@")));

/** The body of the request for a session. */
function body() {
  const choice = !find("assistant-part").hidden && { assistant: find("assistant").value };
  return { patientContext: { id: patient().id }, ...choice, ...(config.consent.length > 0 && { consent: consent() }) };
}

function context() {
  const { id } = patient();
  return {
    config, patient: id, endpoint: config.endpoints[chosen("kind")], body: body(),
    token: (kind, who = id) => lab.mint(kind, who),
    stall: lab.stall, withoutVapi: lab.withoutVapi, untilLimited: lab.untilLimited,
  };
}

/** Cause one answer of the catalogue, and show it. */
async function provoke(entry) {
  const c = context();
  node("app", `request of ${c.patient}`, "good");
  node("service", entry.slow ? "this one takes a few seconds…" : "checking…", "busy");
  node("vapi", "waiting");
  request = await entry.make(c);
  showRequest(request);
  const answer = await (entry.send ? entry.send(c, request) : send(request));
  const body = parsed(answer);
  showAnswer(answer, entry);
  const right = answer.status === entry.status && (body?.error?.code ?? "OK") === entry.code;
  results.set(entry.code, right);
  remember(body?.data);
  node("service", `${answer.status || "no answer"} ${body?.error?.code ?? (body ? "session granted" : "")}`, answer.status === 200 ? "good" : "bad");
  showCatalogue(entry);
  if (narrow.matches) find("answer").scrollIntoView({ block: "start" });
}

function remember(data) {
  session = data;
  explainSdk();
}

function showCatalogue(current) {
  const right = [...results.values()].filter(Boolean).length;
  find("tally").textContent = results.size ? `${right} of ${CATALOGUE.length} as expected` : "";
  CATALOGUE.forEach((entry, i) => {
    const button = find("scenarios").children[i].firstChild;
    const mark = button.querySelector(".mark");
    button.setAttribute("aria-current", entry === current);
    if (!results.has(entry.code)) return;
    const right = results.get(entry.code);
    const words = right ? "answered as expected" : "not answered as expected";
    fill(mark, el("span", { "aria-hidden": "true" }, right ? "✓" : "✗"), el("span", { class: "unseen" }, words));
    mark.toggleAttribute("data-off", !right);
  });
}

const scenario = (entry) =>
  el("li", {}, el("button", { class: "scenario", type: "button", title: entry.means },
    el("span", { class: "status", "data-class": String(entry.status)[0] }, String(entry.status)),
    el("span", { class: "code" }, entry.code), el("span", { class: "mark" })));

const choice = (name, value, checked, ...face) =>
  el("label", { class: "choice" }, el("input", { type: "radio", name, value, checked }), el("span", { class: "face" }, ...face));

const initials = (name) => name.split(" ").map((word) => word[0]).join("");
const KINDS = { public_key: ["Public key", "the same for all"], session_token: ["Session token", "for one assistant"] };

const LANGUAGES = { english: "English", german: "Deutsch" };
const languages = (names) => names.map((name) => LANGUAGES[name] ?? name).join(", ");

/** Offer the assistants of a patient who may choose. */
function offerAssistants() {
  const { assistants } = patient();
  find("assistant-part").hidden = assistants.length < 2;
  fill(find("assistant"), ...assistants.map((name) => el("option", { value: name }, languages([name]))));
}

function build() {
  fill(find("patients"), ...config.patients.map(({ id, name, assistants }, i) =>
    choice("patient", id, i === 0, el("span", { class: "avatar", "aria-hidden": "true" }, initials(name)), el("span", {}, name, el("small", {}, languages(assistants))))));
  fill(find("failure"), ...FAILURES.map(([value, text]) => el("option", { value }, text)));
  find("consents").hidden = config.consent.length === 0;
  fill(find("consents"), ...config.consent.map((each) =>
    el("label", { class: "tick" }, el("input", { type: "checkbox", value: each }), el("span", {}, `I agree: ${each.replace("@", ", version ")}`))));
  fill(find("sdks"), choice("sdk", "sandbox", true, el("span", {}, "Sandbox’s class", el("small", {}, "/playground/vapi.js"))),
    choice("sdk", "real", false, el("span", {}, "Vapi’s real SDK", el("small", {}, "@vapi-ai/web"))));
  offerAssistants();
  fill(find("kinds"), ...Object.keys(config.endpoints).map((kind, i) =>
    choice("kind", kind, i === 0, el("span", {}, KINDS[kind][0], el("small", {}, KINDS[kind][1])))));
  fill(find("scenarios"), ...CATALOGUE.map(scenario));
  fill(find("calls"), ...Object.entries(CALLS).map(([name, make]) => {
    const button = el("button", { type: "button", class: name === "Start the call" ? "primary" : "quiet", disabled: true }, name);
    button.addEventListener("click", () => busy(() => startCall(make)));
    return button;
  }));
  fill(find("attacks"), ...Object.entries(ATTACKS).map(([name, make]) => {
    const button = el("button", { type: "button", class: "quiet", disabled: true }, name);
    button.addEventListener("click", () => busy(() => attack(make)));
    return button;
  }));
  showCatalogue();
}

/** Ways to start a call, with the arguments for the SDK. */
const CALLS = {
  "Start the call": async () => [session.apiKey, session.assistantId, overrides(session)],
  "With an expired session token": async () => [await lab.expiredCredential(), session.assistantId],
  "With another assistant": async () => [session.apiKey, crypto.randomUUID()],
  "With my own prompt": async () => [session.apiKey, { name: "mine", model: { messages: [] } }],
};

/** The app passes the proof on unread. */
const overrides = ({ patientProof }) => (patientProof ? { variableValues: { patientProof } } : {});

async function startCall(make) {
  const [credential, ...options] = await make();
  node("vapi", "starting a web call…", "busy");
  node("tools", "waiting");
  const { accepted, refused } = await call(await loadSdk(chosen("sdk")), config.vapiUrl, credential, ...options);
  node("vapi", accepted ? "web call accepted" : refused, accepted ? "good" : "bad");
  callId = accepted;
  find("call-tool").disabled = !accepted;
}

async function useTool() {
  node("tools", "verifying the proof…", "busy");
  node("tools", ...(await callTool(callId)));
}

/** Start the calls of an attacking app, with a new session; each calls the tool. */
async function attack(make) {
  const answer = await send(await CATALOGUE[0].make(context()));
  const { data } = parsed(answer) ?? {};
  if (!data) return showAnswer(answer);
  for (const variableValues of await make(data)) {
    await startCall(async () => [data.apiKey, data.assistantId, { variableValues }]);
    if (callId) await useTool();
  }
}

/** Run one action at a time; show a failure of the page itself. */
async function busy(work) {
  if (document.body.ariaBusy === "true") return;
  document.body.ariaBusy = "true";
  try {
    await work();
  } catch (error) {
    badge(find("badge"), "the page failed", "bad");
    fill(find("verdict"), el("p", { class: "surprise" }, String(error)));
  } finally {
    document.body.ariaBusy = "false";
  }
}

async function runAll() {
  results.clear();
  for (const entry of CATALOGUE) await provoke(entry);
}

/** Say what the chosen class needs; without its bundle the real SDK cannot be used. */
function explainSdk() {
  const real = chosen("sdk") === "real";
  const how = ["With Node.js installed, run ", el("code", {}, "make playground-sdk"), " and load this page again."];
  const what = "It creates the call at the stand-in and then fails to join: its audio is on the internet.";
  find("sdk-note").hidden = !real;
  fill(find("sdk-note"), ...(config.realSdk ? [what] : how));
  for (const button of [...find("calls").children, ...find("attacks").children]) button.disabled = !session || (real && !config.realSdk);
}

async function copy() {
  if (request) await navigator.clipboard.writeText(asCurl(request));
  find("copy").textContent = request ? "Copied" : "Send a request first";
  setTimeout(() => (find("copy").textContent = "Copy as curl"), 1500);
}

build();
find("call").addEventListener("submit", (event) => {
  event.preventDefault();
  press({ patient: patient(), endpoint: config.endpoints[chosen("kind")], failure: find("failure").value, body: body() });
});
find("patients").addEventListener("change", offerAssistants);
find("sdks").addEventListener("change", explainSdk);
find("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(() => provoke(CATALOGUE[0]));
});
find("scenarios").addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (item) busy(() => provoke(CATALOGUE[[...find("scenarios").children].indexOf(item)]));
});
find("call-tool").addEventListener("click", () => busy(useTool));
find("run-all").addEventListener("click", () => busy(runAll));
find("copy").addEventListener("click", () => busy(copy));
remember(undefined);
document.body.dataset.ready = "true";
