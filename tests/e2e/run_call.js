// Starts a session and a call with the sandbox's Vapi class, and reports its events. `until` is an
// event, a type of message or a transcript; then the method `then` of the object is called.
async ({ failure = null, until, then, overrides, unproven }) => {
  const { default: Vapi, simulate } = await import("/playground/vapi.js");
  const lab = await import("/playground/static/lab.js");
  const headers = { Authorization: `Bearer ${await lab.mint("valid", "pt_1001")}` };
  const session = await fetch(lab.config.endpoints.public_key, { method: "POST", headers });
  const { data } = await session.json();
  simulate(failure);
  const vapi = new Vapi(data.apiKey);
  const events = [];
  globalThis.vapi = vapi;
  (globalThis.held ??= []).push({ vapi, events });
  const done = new Promise((resolve) => {
    for (const name of [
      "call-start", "call-end", "speech-start", "speech-end", "volume-level", "message", "error",
      "camera-error", "network-connection", "call-start-success", "call-start-failed",
    ]) {
      vapi.on(name, (value) => {
        events.push([name, value ?? null]);
        if ([name, value?.type, value?.transcript].includes(until)) resolve();
      });
    }
  });
  const variableValues = unproven ? {} : { patientProof: data.patientProof };
  const call = await vapi.start(data.assistantId, { variableValues, ...overrides });
  if (call !== null) await done;
  if (then) await vapi[then]();
  simulate(null);
  return { call, events };
}
