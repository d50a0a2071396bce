// A class with the interface of `Vapi` of @vapi-ai/web 2.7.1 for the sandbox: its calls stay on this
// machine. It starts a call at the stand-in for Vapi and emits the events of a short scripted
// conversation, without audio. The assistant calls the clinic's tool by a signed webhook.
//
//   import Vapi, { simulate } from "http://127.0.0.1:8080/playground/vapi.js";
import { Emitter } from "./vapi-events.js";
import { Room } from "./vapi-room.js";

/** @typedef {import("@vapi-ai/web").default} Real */
/** @typedef {ConstructorParameters<typeof import("@vapi-ai/web").default>} Options */
/** @typedef {Parameters<Real["start"]>} StartOptions */
/** @typedef {Parameters<Real["reconnect"]>[0]} WebCall */
/** @typedef {(typeof FAILURES)[number]} Failure */

/** What `simulate` can let go wrong. */
export const FAILURES = /** @type {const} */ ([
  "microphone-refused", "no-audio", "over-concurrency-limit", "network-drop", "ended-by-clinic",
]);

const LEVEL_MS = 100;
const DROP_MS = 1000;
/** @type {Failure | null} */
let simulated = null;

/**
 * Let the calls that begin from now on fail in this way; null ends that.
 *
 * @param {Failure | null} failure
 */
export function simulate(failure) {
  if (failure !== null && !FAILURES.includes(failure)) throw new RangeError(`not one of ${FAILURES.join(", ")}`);
  simulated = failure;
}

const now = () => new Date().toISOString();
const wait = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The stand-in's address, which the page of the sandbox knows. */
async function standIn() {
  const here = import.meta.url?.startsWith("http") ? import.meta.url : "http://127.0.0.1:8080/playground/vapi.js";
  const config = await fetch(new URL("./config.json", here));
  return /** @type {string} */ ((await config.json()).vapiUrl);
}

export default class Vapi extends Emitter {
  #token;
  #baseUrl;
  #audioSource;
  #started = false;
  /** @type {Room | null} */
  #room = null;
  /** @type {any} */
  #call = null;
  #toldEnd = false;
  /** Whether the simulated network carries nothing any more. */
  #deaf = false;
  /** @type {Failure | null} */
  #failure = null;
  /** @type {HTMLAudioElement | null} */
  #player = null;
  /** @type {number | null} */
  #volume = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #speaking;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #observer;

  /**
   * @param {string} apiToken
   * @param {string} [apiBaseUrl]  By default the stand-in's, never Vapi's.
   * @param {Options[2]} [dailyCallConfig]
   * @param {Options[3]} [dailyCallObject]
   */
  constructor(apiToken, apiBaseUrl, dailyCallConfig, dailyCallObject) {
    super();
    void dailyCallConfig;
    this.#token = apiToken;
    this.#baseUrl = apiBaseUrl;
    this.#audioSource = dailyCallObject?.audioSource;
  }

  /**
   * @param {StartOptions[0]} [assistant]
   * @param {StartOptions[1]} [assistantOverrides]
   * @param {StartOptions[2]} [squad]
   * @param {StartOptions[3]} [workflow]
   * @param {StartOptions[4]} [workflowOverrides]
   * @param {StartOptions[5]} [options]
   * @returns {ReturnType<Real["start"]>}
   */
  async start(assistant, assistantOverrides, squad, workflow, workflowOverrides, options) {
    if (!assistant && !squad && !workflow) {
      const error = new Error("Assistant or Squad or Workflow must be provided.");
      this.emit("error", { type: "validation-error", stage: "input-validation", error: plain(error), timestamp: now() });
      throw error;
    }
    if (this.#started) {
      this.#progress("validation", "failed", { reason: "already-started" });
      return null;
    }
    const began = Date.now();
    this.#started = true;
    this.#failure = simulated;
    try {
      this.#progress("initialization", "started", { hasAssistant: !!assistant, hasSquad: !!squad, hasWorkflow: !!workflow });
      const call = await this.#stage("web-call-creation", () => this.#create({
        ...named("assistant", assistant), assistantOverrides,
        ...named("squad", squad), ...named("workflow", workflow), workflowOverrides,
        roomDeleteOnUserLeaveEnabled: options?.roomDeleteOnUserLeaveEnabled,
      }), (created) => ({ callId: created.id, videoRecordingEnabled: false, voiceProvider: "unknown" }));
      await this.#join(call);
      this.emit("call-start-success", { totalDuration: Date.now() - began, callId: call.id, timestamp: now() });
      return call;
    } catch (error) {
      this.#fail(error, began);
      return null;
    }
  }

  /** @param {unknown} error @param {number} began */
  #fail(error, began) {
    const totalDuration = Date.now() - began;
    this.#leave();
    this.emit("call-start-failed", { stage: "unknown", totalDuration, error: plain(error).message, timestamp: now(), context: {} });
    this.emit("error", { type: "start-method-error", stage: "unknown", error: plain(error), totalDuration, timestamp: now(), context: {} });
  }

  /** @param {object} body @returns {Promise<any>} */
  async #create(body) {
    const url = new URL(`${this.#baseUrl ?? (await standIn())}/call/web`);
    if (this.#failure === "over-concurrency-limit") url.searchParams.set("simulate", this.#failure);
    const headers = { Authorization: `Bearer ${this.#token}`, "Content-Type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const answer = await response.json();
    // As in Vapi's SDK, its answer is then `error.error` of the event.
    if (!response.ok) throw { ...answer, error: answer };
    return answer;
  }

  /** @param {WebCall} call */
  async #join(call) {
    await this.#stage("daily-call-object-creation", async () => {
      this.#call = call;
      this.#toldEnd = this.#deaf = false;
    });
    await this.#stage("mobile-permissions", async () => {});
    await this.#stage("daily-call-join", () => this.#enter(call));
    for (const stage of ["video-recording-setup", "audio-observer-setup", "audio-processing-setup"]) {
      await this.#stage(stage, async () => {});
    }
    this.emit("network-quality-change", { threshold: "good", quality: 100 });
    if (this.listenerCount("local-volume-level") > 0) await this.startLocalAudioLevelObserver(LEVEL_MS);
  }

  /** @param {WebCall} call */
  async #enter(call) {
    const silent = this.#failure === "microphone-refused" || this.#failure === "no-audio" || this.#audioSource === false;
    if (this.#failure === "microphone-refused") {
      const msg = "Permission denied";
      this.emit("camera-error", { action: "camera-error", errorMsg: { errorMsg: msg, audioOk: false, videoOk: true }, error: { type: "permissions", blockedBy: "user", blockedMedia: ["audio"], msg } });
    }
    if (!this.#started) throw new Error("Use after destroy");
    /** @type {string[]} */
    const early = [];
    let joined = false;
    const room = await Room.join(call.webCallUrl, !silent, {
      onMessage: (text) => (joined ? this.#receive(text) : early.push(text)),
      onClose: (left) => this.#closed(left),
    });
    this.#room = room;
    if (!silent) await room.openMicrophone(this.#audioSource);
    if (!this.#started) {
      room.leave();
      throw new Error("Left while joining");
    }
    this.#attachPlayer();
    this.#updateParticipant();
    // After `start` has reported its last stage.
    setTimeout(() => {
      joined = true;
      for (const text of early) this.#receive(text);
    });
  }

  /** @param {string} text */
  #receive(text) {
    if (this.#deaf) return;
    if (text === "listening") {
      this.emit("call-start");
      return;
    }
    const message = JSON.parse(text);
    this.emit("message", message);
    if (message.type === "speech-update" && message.role === "assistant") this.#speak(message.status === "started");
    if (message.type === "status-update" && message.status === "ended") this.#toldEnd = true;
    if (message.role === "user" && message.transcriptType === "final") void this.#disturb();
  }

  /** Let happen what was simulated, once the patient has spoken. */
  async #disturb() {
    const failure = this.#failure;
    if (failure === "ended-by-clinic") {
      const headers = { "Content-Type": "application/json" };
      await fetch(this.#call.monitor.controlUrl, { method: "POST", headers, body: '{"type":"end-call"}' });
    } else if (failure === "network-drop") {
      this.#deaf = true;
      this.emit("network-connection", { action: "network-connection", type: "signaling", event: "interrupted" });
      await wait(DROP_MS);
      this.#room?.leave();
    }
  }

  /** @param {Room} room  The room whose connection has ended. */
  #closed(room) {
    if (room !== this.#room) return; // left by `stop`
    const error = this.#toldEnd ? { type: "ejected", msg: "Meeting has ended" } : { type: "connection-error", msg: "Connection lost" };
    if (this.listenerCount("error") > 0) {
      const event = { action: "error", errorMsg: error.msg, error, message: error };
      this.emit("error", { type: "daily-error", error: event, timestamp: now() });
    }
    this.#leave();
  }

  #leave() {
    const room = this.#room;
    this.#started = false;
    this.#room = this.#call = null;
    this.#speak(false);
    this.stopLocalAudioLevelObserver();
    this.#player?.remove();
    this.#player = null;
    if (!room) return;
    room.leave();
    this.emit("call-end");
    if (!this.#toldEnd) this.emit("message", { type: "status-update", status: "ended", endedReason: "customer-ended-call" });
    this.#toldEnd = true;
  }

  /** Leave the call. Like Vapi's, it has no effect while `start` creates the call. */
  async stop() {
    if (this.#call) this.#leave();
  }

  end() {
    this.send({ type: "end-call" });
    void this.stop();
  }

  /** @param {WebCall} webCall */
  async reconnect(webCall) {
    if (this.#started) throw new Error("Cannot reconnect while a call is already in progress. Call stop() first.");
    if (!webCall.webCallUrl) throw new Error("webCallUrl is required for reconnection.");
    const began = Date.now();
    this.#started = true;
    this.#failure = simulated;
    try {
      await this.#join(webCall);
      this.emit("call-start-success", { totalDuration: Date.now() - began, callId: webCall.id, timestamp: now() });
    } catch (error) {
      this.#fail(error, began);
    }
  }

  /** @param {Parameters<Real["send"]>[0]} message */
  send(message) {
    this.#room?.send(message);
  }

  /**
   * @param {string} message
   * @param {boolean} [endCallAfterSpoken]
   * @param {boolean} [interruptionsEnabled]
   * @param {boolean} [interruptAssistantEnabled]
   */
  say(message, endCallAfterSpoken, interruptionsEnabled = false, interruptAssistantEnabled = false) {
    this.send({ type: "say", message, endCallAfterSpoken, interruptionsEnabled, interruptAssistantEnabled });
  }

  /** @param {boolean} mute */
  setMuted(mute) {
    this.#room?.mute(mute);
    if (this.#room) this.#updateParticipant();
  }

  isMuted() {
    return this.#room?.muted ?? false;
  }

  getAudioPlayer() {
    return this.#player;
  }

  /** @param {number} volume */
  setVolume(volume) {
    if (!Number.isFinite(volume)) return;
    this.#volume = Math.min(1, Math.max(0, volume));
    if (this.#player) this.#player.volume = this.#volume;
  }

  /** @returns {ReturnType<Real["getDailyCallObject"]>}  There is no Daily in the sandbox. */
  getDailyCallObject() {
    return null;
  }

  /** @param {Parameters<Real["setInputDevicesAsync"]>[0]} options */
  async setInputDevicesAsync(options) {
    void options;
  }

  /** @param {Parameters<Real["setOutputDeviceAsync"]>[0]} options */
  setOutputDeviceAsync(options) {
    void options;
  }

  /** @param {number} gain */
  async increaseMicLevel(gain) {
    void gain;
    this.#requireCall();
  }

  getLocalAudioLevel() {
    return this.#room && !this.#room.muted ? 0.1 : 0;
  }

  /** @param {number} [interval]  In milliseconds. */
  async startLocalAudioLevelObserver(interval = LEVEL_MS) {
    this.#requireCall();
    clearInterval(this.#observer);
    this.#observer = setInterval(() => this.emit("local-volume-level", this.getLocalAudioLevel()), interval);
  }

  stopLocalAudioLevelObserver() {
    clearInterval(this.#observer);
    this.#observer = undefined;
  }

  isLocalAudioLevelObserverRunning() {
    return this.#observer !== undefined;
  }

  /**
   * @param {Parameters<Real["startScreenSharing"]>[0]} [displayMediaOptions]
   * @param {Parameters<Real["startScreenSharing"]>[1]} [screenVideoSendSettings]
   */
  startScreenSharing(displayMediaOptions, screenVideoSendSettings) {
    void [displayMediaOptions, screenVideoSendSettings];
  }

  stopScreenSharing() {}

  startRecording() {
    this.#requireCall();
    this.emit("recording-started", { action: "recording-started", type: "cloud-beta" });
  }

  stopRecording() {
    if (this.#room) this.emit("recording-stopped", { action: "recording-stopped" });
  }

  /** @returns {Promise<Record<string, any>>} */
  static async runNetworkTestsStandalone() {
    const passed = { result: "passed" };
    return { networkConnectivity: passed, websocketConnectivity: passed };
  }

  #requireCall() {
    if (!this.#room) throw new Error("Call object is not available.");
  }

  /** @param {boolean} speaks */
  #speak(speaks) {
    if (speaks === (this.#speaking !== undefined)) return;
    clearInterval(this.#speaking);
    const level = () => this.emit("volume-level", 0.4 + Math.random() * 0.5);
    this.#speaking = speaks ? setInterval(level, LEVEL_MS) : undefined;
    this.emit(speaks ? "speech-start" : "speech-end");
    if (speaks) level();
    else this.emit("volume-level", 0);
  }

  #attachPlayer() {
    if (typeof document === "undefined") return;
    this.#player = document.createElement("audio");
    if (this.#volume !== null) this.#player.volume = this.#volume;
    document.body.append(this.#player);
    this.emit("audio", this.#player);
  }

  #updateParticipant() {
    this.emit("daily-participant-updated", { local: true, session_id: this.#call?.id, audio: !this.isMuted(), video: false });
  }

  /** @param {string} stage @param {string} status @param {object} [metadata] */
  #progress(stage, status, metadata) {
    this.emit("call-start-progress", { stage, status, timestamp: now(), ...(metadata && { metadata }) });
  }

  /**
   * @template T
   * @param {string} stage
   * @param {() => Promise<T>} work
   * @param {(result: T) => object} [metadata]
   * @returns {Promise<T>}
   */
  async #stage(stage, work, metadata) {
    this.#progress(stage, "started");
    const result = await work();
    this.#progress(stage, "completed", metadata?.(result));
    return result;
  }
}

/** The argument of `start` as Vapi's API takes it: an id, or the thing itself. */
const named = (/** @type {string} */ name, /** @type {unknown} */ value) =>
  (typeof value === "string" ? { [`${name}Id`]: value } : { [name]: value });

/** An error as a plain object, which `JSON.stringify` shows. */
function plain(/** @type {any} */ error) {
  return error instanceof Error ? { message: error.message, name: error.name, stack: error.stack } : { message: String(error), ...error };
}
