// The page: patients, the catalogue, sending, and the call.
import { badge, el, fill, find } from "./dom.js";
import { asCurl, parsed, send } from "./http.js";
import { CATALOGUE } from "./catalogue.js";
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
let Sdk;

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

function context() {
  const patient = chosen("patient");
  return {
    config, patient, endpoint: config.endpoints[chosen("kind")],
    token: (kind, who = patient) => lab.mint(kind, who),
    stall: lab.stall, withoutVapi: lab.withoutVapi, untilLimited: lab.untilLimited,
  };
}

function node(name, text, state = "") {
  const item = document.querySelector(`[data-node="${name}"]`);
  item.dataset.state = state;
  item.querySelector("[data-text]").textContent = text;
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
  for (const button of [...find("calls").children, ...find("attacks").children]) button.disabled = !Sdk || !session;
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

function build() {
  fill(find("patients"), ...config.patients.map(({ id, name }, i) =>
    choice("patient", id, i === 0, el("span", { class: "avatar", "aria-hidden": "true" }, initials(name)), el("span", {}, name, el("small", {}, id)))));
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
  find("errors").open = !narrow.matches;
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
  const { accepted, refused } = await call(Sdk, config.vapiUrl, credential, ...options);
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
  const { data } = parsed(await send(await CATALOGUE[0].make(context())));
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

async function prepareSdk() {
  try {
    Sdk = await loadSdk();
  } catch {
    fill(find("sdk-note"), "Vapi’s SDK is not bundled yet. With Node.js installed, run ", el("code", {}, "make playground-sdk"), " and load this page again. Everything else works without it.");
  }
  remember(session);
}

async function copy() {
  if (request) await navigator.clipboard.writeText(asCurl(request));
  find("copy").textContent = request ? "Copied" : "Send a request first";
  setTimeout(() => (find("copy").textContent = "Copy as curl"), 1500);
}

build();
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
await prepareSdk();
document.body.dataset.ready = "true";
