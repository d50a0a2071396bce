// A client in the room of a call at the stand-in for Vapi, in place of Daily's call object.

/**
 * @typedef {object} Events
 * @property {(text: string) => void} onMessage  A message of Vapi, as text.
 * @property {(room: Room) => void} onClose  The connection has ended.
 */

export class Room {
  /** @type {WebSocket} */
  #socket;
  /** @type {MediaStreamTrack | null} */
  #opened = null;
  muted = false;

  /**
   * Join: open the connection to the room. Throws when the room does not let the client in.
   *
   * @param {string} url  The call's `webCallUrl`.
   * @param {boolean} audio
   * @param {Events} events
   * @returns {Promise<Room>}
   */
  static join(url, audio, { onMessage, onClose }) {
    const address = new URL(url);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    if (!audio) address.searchParams.set("audio", "off");
    const socket = new WebSocket(address);
    socket.onmessage = ({ data }) => onMessage(data);
    return new Promise((resolve, reject) => {
      socket.onclose = () => reject(new Error("Meeting has ended"));
      socket.onopen = () => {
        const room = new Room(socket);
        socket.onclose = () => onClose(room);
        resolve(room);
      };
    });
  }

  /** @param {WebSocket} socket */
  constructor(socket) {
    this.#socket = socket;
  }

  /**
   * Open the microphone, when the page may already use it; otherwise the audio is simulated.
   * A track that the app supplies is the app's to stop.
   *
   * @param {string | boolean | MediaStreamTrack | undefined} source
   */
  async openMicrophone(source) {
    if (typeof source === "object" || !(await mayUseMicrophone())) return;
    const audio = typeof source === "string" ? { deviceId: source } : true;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      [this.#opened] = stream.getAudioTracks();
    } catch {
      // No microphone: the conversation is scripted anyway.
    }
    if (this.#socket.readyState > WebSocket.OPEN) this.#releaseMicrophone();
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.muted = muted;
    if (this.#opened) this.#opened.enabled = !muted;
  }

  /** @param {object} message */
  send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  leave() {
    this.#releaseMicrophone();
    this.#socket.close();
  }

  #releaseMicrophone() {
    this.#opened?.stop();
    this.#opened = null;
  }
}

async function mayUseMicrophone() {
  try {
    const { state } = await navigator.permissions.query({ name: /** @type {any} */ ("microphone") });
    return state === "granted";
  } catch {
    return false; // Node.js, React Native
  }
}
