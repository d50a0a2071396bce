// The helpers of the sandbox that the page uses; production has none of them.
import { send } from "./http.js";

/** The configuration of the page: addresses, patients, limits. */
export const config = await (await fetch("/playground/config.json")).json();

async function helper(path, content) {
  const response = await fetch(`${config.lab}/${path}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
  });
  if (!response.ok) throw new Error(`The sandbox failed: ${response.status} ${await response.text()}`);
  return response.json();
}

export const mint = async (kind, patient) => (await helper("tokens", { kind, patient })).token;

/** A session token for the SDK that has expired. */
export const expiredCredential = async () => (await helper("credentials", {})).apiKey;

/** A proof of an attacking app: `old`, or with another patient written into it. */
export const badProof = async (kind, proof, patient) => (await helper("proofs", { kind, proof, patient })).proof;

/** Makes a call of the stand-in call the clinic's tool; returns the webhook and the response. */
export const callTool = (callId) => helper("tool-calls", { callId });

/** Sends all but the end of the request, through the sandbox. */
export const stall = async (request) => helper("stall", { url: request.url, headers: request.headers });

/** Repeats a request until the patient's limit is reached. */
export async function untilLimited(request) {
  let answer = await send(request);
  for (let sent = 1; sent <= config.rateLimit && answer.status === 200; sent += 1) answer = await send(request);
  return answer;
}

/** Sends a request while the stand-in for Vapi fails. */
export async function withoutVapi(request) {
  await helper("vapi", { status: 503 });
  try {
    return await send(request);
  } finally {
    await helper("vapi", { status: 200 });
  }
}
