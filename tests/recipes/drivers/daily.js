// A stand-in for Daily, which carries the audio of Vapi's calls on its own servers. It opens the
// microphone in `join` and closes it in `destroy`. As in @daily-co/daily-js 0.87.0, a join that
// `destroy` interrupts never settles, and one after `destroy` fails.
import { during, moment } from "./moments.js";

/** Every microphone that was opened: a track with `readyState` and `stop()`. */
export const microphones = [];
export const faults = { join: null };

async function openMicrophone() {
  const devices = globalThis.navigator?.mediaDevices;
  if (devices) return (await devices.getUserMedia({ audio: true })).getAudioTracks()[0];
  // Node.js has no devices.
  return { readyState: "live", stop() { this.readyState = "ended"; } };
}

class CallObject {
  #listeners = {};
  #destroyed = false;
  #track = null;

  on(event, callback) {
    (this.#listeners[event] ??= []).push(callback);
    return this;
  }

  once(event, callback) { return this.on(event, callback); }
  off() { return this; }
  iframe() { return null; }
  startRemoteParticipantsAudioLevelObserver() {}
  async updateInputSettings() {}
  async enumerateDevices() { return { devices: [] }; }
  async getInputDevices() { return {}; }

  #emit(event, value) {
    for (const callback of this.#listeners[event] ?? []) callback(value);
  }

  join() {
    if (this.#destroyed) return Promise.reject(new Error("Use after destroy"));
    return new Promise((resolve, reject) => during(this.#join(resolve)).catch(reject));
  }

  async #join(resolve) {
    await moment("joining");
    if (this.#destroyed) return;
    if (faults.join) this.#fail(faults.join);
    const track = await openMicrophone();
    microphones.push(track);
    this.#track = track;
    if (!this.#destroyed) await moment("microphone open");
    if (this.#destroyed) return track.stop();
    this.#emit("joined-meeting");
    setTimeout(() => during(this.#listen()));
    resolve({});
  }

  #fail(message) {
    this.#emit("error", { errorMsg: message });
    throw new Error(message);
  }

  async #listen() {
    await moment("joined");
    if (!this.#destroyed) this.#emit("app-message", { data: "listening" });
  }

  async destroy() {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#track?.stop();
    await moment("destroyed");
    this.#emit("left-meeting");
  }
}

export default {
  createCallObject() {
    moment("call object");
    return new CallObject();
  },
};
