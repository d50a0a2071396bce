// The call, from the patient's tap to the end: session, conversation, tool, hanging up.
import Vapi, { simulate } from "/playground/vapi.js";
import { SessionError, inWords } from "/playground/clients/session.js";
import { badge, el, fill, find } from "./dom.js";
import { parsed, send } from "./http.js";
import * as lab from "./lab.js";
import { ask } from "./catalogue.js";
import { showAnswer, showRequest } from "./panels.js";

const { config } = lab;
const HANG_UP_MS = 3000;
const QUIET_MS = 2000;

/** What can go wrong: by `simulate` of the class, or by the token of the request for a session. */
export const FAILURES = [
  ["", "Nothing"],
  ["microphone-refused", "The microphone is refused"],
  ["no-audio", "No audio from the patient for 15 s"],
  ["over-concurrency-limit", "Too many calls at once"],
  ["network-drop", "The network drops"],
  ["ended-by-clinic", "The clinic ends the call"],
  ["forged", "The session is refused: 401"],
  ["nurse", "The session is refused: 403"],
  ["often", "The session is refused: 429"],
  ["unavailable", "The session is refused: 503"],
];
const SIMULATED = new Set(FAILURES.slice(1, 6).map(([name]) => name));

const REASONS = {
  "assistant-ended-call": "The clinic has ended the call.",
  "exceeded-max-duration": "The longest time for a call is over.",
  "call.in-progress.error-assistant-did-not-receive-customer-audio": "Vapi heard nothing from the patient and ended the call. Please check the microphone and call again.",
};
const ENDED = "The call has ended.";

/** The current call, or null. */
let current = null;

/** Begin a call, or hang up the current one. */
export function press(choices) {
  if (current) current.hangUp();
  else current = new Call(choices);
}

function state(name, text) {
  const button = find("start");
  button.dataset.state = name;
  button.textContent = name === "idle" ? "Start a call" : "Hang up";
  badge(find("call-state"), text, text === "connected" ? "good" : "");
}

export function node(name, text, mark = "") {
  const item = document.querySelector(`[data-node="${name}"]`);
  item.dataset.state = mark;
  item.querySelector("[data-text]").textContent = text;
}

/** Add a line to the story; `who` speaks it. */
function tell(kind, text, { who, todo } = {}) {
  const line = el("li", { "data-kind": kind },
    ...(who ? [el("span", { class: "who" }, who)] : []),
    el("span", { class: "text" }, text),
    ...(todo ? [el("p", { class: "todo" }, todo)] : []));
  find("story").append(line);
  line.scrollIntoView({ block: "nearest" });
  return line;
}

class Call {
  #choices;
  #vapi = null;
  #over = false;
  #told = false;
  #patientTurns = 0;
  #line = null;
  #timers = [];

  /** @param {object} choices  patient, endpoint, failure, body: of the request for a session. */
  constructor(choices) {
    this.#choices = choices;
    fill(find("story"));
    find("story-empty").hidden = true;
    for (const [name, text] of [["service", "waiting"], ["vapi", "waiting"], ["tools", "waiting"]]) node(name, text);
    node("app", choices.patient.name, "good");
    state("busy", "connecting…");
    this.#run().catch((error) => this.#fail("Something went wrong. Please try again.", String(error)));
  }

  hangUp() {
    if (this.#vapi) this.#vapi.stop();
    this.#end();
  }

  async #run() {
    const session = await this.#session();
    if (session && !this.#over) await this.#start(session);
  }

  async #session() {
    const { patient, endpoint, failure, body } = this.#choices;
    const often = failure === "often";
    const kind = failure && !SIMULATED.has(failure) && !often ? failure : "valid";
    const token = await lab.mint(kind, often ? "pt_often" : patient.id);
    const request = ask({ endpoint, patient: patient.id }, token, { body: JSON.stringify(often ? {} : body) });
    node("service", "checking the patient’s token…", "busy");
    showRequest(request);
    const answer = await (often ? lab.untilLimited(request) : send(request));
    showAnswer(answer);
    const content = parsed(answer);
    if (answer.status !== 200) return this.#refused(answer, content?.error);
    node("service", "session granted", "good");
    const took = Math.max(1, Math.round(answer.milliseconds));
    tell("note", `Session: the service knows ${patient.name} (${content.data.patientContext.id}) and gives the app what one call needs, in ${took} ms.`);
    return content.data;
  }

  #refused(answer, error) {
    const code = error?.code ?? "UNREACHABLE";
    const retryAfter = answer.headers.find(([name]) => name === "retry-after")?.[1];
    const reason = new SessionError(code, "", { retryAfter: retryAfter === undefined ? null : Number(retryAfter) });
    node("service", `${answer.status || "no answer"} ${code}`, "bad");
    this.#fail(`No session. ${inWords(reason)}`, `The service answered ${answer.status} ${code}: ${error?.details ?? answer.reason}`);
    return null;
  }

  async #start({ apiKey, assistantId, patientProof }) {
    const { failure } = this.#choices;
    simulate(SIMULATED.has(failure) ? failure : null);
    this.#vapi = new Vapi(apiKey, config.vapiUrl);
    this.#listen(this.#vapi);
    node("vapi", "starting a call…", "busy");
    const overrides = patientProof ? { variableValues: { patientProof } } : {};
    if (await this.#vapi.start(assistantId, overrides)) {
      this.#later(QUIET_MS, () => tell("note", "Vapi waits for the patient’s audio, for 15 seconds."));
    }
  }

  #listen(vapi) {
    vapi.on("call-start", () => {
      this.#stopTimers();
      tell("good", "Connected.");
      state("busy", "connected");
      node("vapi", "carries the call", "good");
    });
    vapi.on("message", (message) => this.#hear(message));
    vapi.on("volume-level", (level) => this.#line?.querySelector(".meter span")?.style.setProperty("--level", `${level * 100}%`));
    vapi.on("camera-error", () => {
      this.#fail("The microphone was refused. Please allow it in the browser’s settings and call again.", "The SDK emitted camera-error. Ask for the microphone before the session.");
      vapi.stop();
    });
    vapi.on("network-connection", ({ event }) => {
      if (event === "interrupted") tell("note", "The network is interrupted…");
    });
    vapi.on("error", ({ type, error }) => this.#failed(type, error));
    vapi.on("call-end", () => this.#end());
  }

  #failed(type, error) {
    if (type === "start-method-error") {
      const answer = error.error?.message ?? error.message;
      const limit = String(answer).includes("Over Concurrency Limit");
      const words = limit ? "All lines are busy. Please call again in a minute." : "The call could not be started. Please try again.";
      this.#fail(words, `Vapi: ${[answer].flat().join("; ")}`);
      this.#end();
    } else if (error.error?.type === "connection-error") {
      this.#fail("The connection was lost. Please check the network and call again.", "The SDK emitted error, then call-end.");
    }
  }

  #hear(message) {
    if (message.type === "transcript") this.#say(message);
    else if (message.type === "tool-calls") node("tools", "verifying the proof…", "busy");
    else if (message.type === "tool-calls-result") this.#tool(message.toolCallResult);
    else if (message.endedReason in REASONS) this.#fail(REASONS[message.endedReason], `endedReason: ${message.endedReason}`);
  }

  #say({ role, transcriptType, transcript }) {
    const patient = role === "user";
    const who = patient ? this.#choices.patient.name : "Assistant";
    this.#line ??= tell(patient ? "patient" : "assistant", "", { who });
    if (!this.#line.querySelector(".meter")) {
      this.#line.querySelector(".who").append(el("span", { class: "meter", "aria-hidden": "true" }, el("span")));
    }
    this.#line.querySelector(".text").textContent = transcript;
    this.#line.scrollIntoView({ block: "nearest" });
    if (transcriptType === "partial") return;
    this.#line.querySelector(".meter").remove();
    this.#line = null;
    this.#patientTurns += patient ? 1 : 0;
    if (!patient && this.#patientTurns === 2) this.#later(HANG_UP_MS, () => this.hangUp());
  }

  #tool({ result, error }) {
    const who = "The clinic’s tool, called by a signed webhook";
    if (error) {
      node("tools", `refused: ${error.split(":")[0]}`, "bad");
      tell("tool", error, { who }).dataset.refused = "";
      return;
    }
    node("tools", `verified ${JSON.parse(result).patient}`, "good");
    tell("tool", result, { who, todo: "The patient is the one in the proof, whatever the app or the model says." });
  }

  /** Tell once why there is no call any more; `todo` is for the developer. */
  #fail(text, todo) {
    if (this.#told || this.#over) return;
    this.#told = true;
    tell("bad", text, { todo });
    if (!this.#vapi) this.#end("no call");
  }

  #end(text = "ended") {
    if (this.#over) return;
    this.#over = true;
    this.#stopTimers();
    this.#line?.querySelector(".meter")?.remove();
    simulate(null);
    if (this.#vapi) {
      tell("end", ENDED);
      node("vapi", "the call is over");
    }
    state("idle", text);
    if (current === this) current = null;
  }

  #later(milliseconds, work) {
    this.#timers.push(setTimeout(work, milliseconds));
  }

  #stopTimers() {
    this.#timers.forEach(clearTimeout);
    this.#timers = [];
  }
}
