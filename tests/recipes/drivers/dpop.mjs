// Gets a token that is bound to a new key, then sessions, as an app whose clock may be wrong.
import { createKey, sign } from "../dpop.js";
import { getSession } from "../session.js";

const { tokenUrl, publicUrl, url, clockMs } = JSON.parse(process.argv[2]);
const [now, send] = [Date.now, fetch];
const statuses = [];

Date.now = () => now() + clockMs;
globalThis.fetch = async (address, init) => {
  const response = await send(address.replace(publicUrl, url), init); // the proxy in front
  statuses.push(response.status);
  return response;
};

const key = await createKey();
globalThis.key = key; // session.js of this test uses it
const readable = await crypto.subtle.exportKey("jwk", key.privateKey).then(() => true, () => false);
const headers = { DPoP: await sign(key, "POST", tokenUrl) };
const token = await (await send(tokenUrl, { method: "POST", headers })).text();
const options = { url: `${publicUrl}/api/v1/sessions/vapi/start`, getToken: async () => token };
const patients = [];
for (let count = 0; count < 2; count++) {
  patients.push((await getSession(options)).patientContext.id);
}
console.log(JSON.stringify({ patients, statuses, readable }));
