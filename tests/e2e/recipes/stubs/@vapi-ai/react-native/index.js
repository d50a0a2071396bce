// Stands for the native SDK, which needs a phone: asks Vapi for the call, as that one does.
export default class Vapi {
  #listeners = {};

  constructor(apiToken, apiBaseUrl) {
    Object.assign(this, { apiToken, apiBaseUrl });
  }

  on(event, listener) {
    this.#listeners[event] = listener;
    return this;
  }

  async start(assistantId) {
    const response = await fetch(`${this.apiBaseUrl}/call/web`, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.apiToken}`, "Content-Type": "application/json" },
      body: JSON.stringify({ assistantId }),
    });
    if (response.ok) {
      this.#listeners["call-start"]();
      return response.json();
    }
    this.#listeners.error(response);
    return null;
  }

  stop() {
    this.#listeners["call-end"]();
  }
}
