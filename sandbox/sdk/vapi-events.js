// The event emitter of the sandbox's Vapi class, with the methods of Node.js's `EventEmitter`.

/** @typedef {(...values: any[]) => void} Listener */
/** @typedef {{ listener: Listener, once: boolean }} Entry */

export class Emitter {
  /** @type {Map<string | symbol, Entry[]>} */
  #entries = new Map();
  #most = 10;

  /**
   * Call the listeners of an event, in their order; return whether there was one. An exception of
   * a listener reaches the caller, and an `error` without a listener is thrown.
   *
   * @param {any} event
   * @param {any[]} values
   */
  emit(event, ...values) {
    const entries = [...(this.#entries.get(event) ?? [])];
    if (event === "error" && entries.length === 0) {
      const [error] = values;
      throw error instanceof Error ? error : Object.assign(new Error("Unhandled error."), { context: error });
    }
    for (const entry of entries) {
      if (entry.once) this.#remove(event, entry);
      entry.listener.apply(this, values);
    }
    return entries.length > 0;
  }

  /** @param {any} event @param {any} listener @returns {this} */
  on(event, listener) {
    return this.#add(event, { listener, once: false });
  }

  /** @param {any} event @param {any} listener @returns {this} */
  once(event, listener) {
    return this.#add(event, { listener, once: true });
  }

  /** @param {any} event @param {any} listener @returns {this} */
  addListener(event, listener) {
    return this.on(event, listener);
  }

  /** @param {any} event @param {any} listener @returns {this} */
  prependListener(event, listener) {
    return this.#add(event, { listener, once: false }, true);
  }

  /** @param {any} event @param {any} listener @returns {this} */
  prependOnceListener(event, listener) {
    return this.#add(event, { listener, once: true }, true);
  }

  /** @param {any} event @param {any} listener @returns {this} */
  removeListener(event, listener) {
    const entry = this.#entries.get(event)?.findLast((each) => each.listener === listener);
    if (entry) this.#remove(event, entry);
    return this;
  }

  /** @param {any} event @param {any} listener @returns {this} */
  off(event, listener) {
    return this.removeListener(event, listener);
  }

  /** @param {any} [event] @returns {this} */
  removeAllListeners(event) {
    if (event === undefined) this.#entries.clear();
    else this.#entries.delete(event);
    return this;
  }

  /** @param {any} event @returns {any[]} */
  listeners(event) {
    return (this.#entries.get(event) ?? []).map(({ listener }) => listener);
  }

  /** @param {any} event @returns {any[]} */
  rawListeners(event) {
    return this.listeners(event);
  }

  /** @param {any} event @param {any} [listener] */
  listenerCount(event, listener) {
    const all = this.listeners(event);
    return (listener === undefined ? all : all.filter((each) => each === listener)).length;
  }

  /** @returns {any[]} */
  eventNames() {
    return [...this.#entries.keys()];
  }

  /** @param {number} most @returns {this} */
  setMaxListeners(most) {
    this.#most = most;
    return this;
  }

  getMaxListeners() {
    return this.#most;
  }

  /** @param {string | symbol} event @param {Entry} entry @param {boolean} [first] @returns {this} */
  #add(event, entry, first = false) {
    const entries = this.#entries.get(event) ?? [];
    this.#entries.set(event, first ? [entry, ...entries] : [...entries, entry]);
    return this;
  }

  /** @param {string | symbol} event @param {Entry} entry */
  #remove(event, entry) {
    const rest = (this.#entries.get(event) ?? []).filter((each) => each !== entry);
    if (rest.length > 0) this.#entries.set(event, rest);
    else this.#entries.delete(event);
  }
}
