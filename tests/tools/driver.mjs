// Runs docs/tools/vapi-webhook.mjs: a command on each line of standard input, a result on each of
// standard output.
import { createInterface } from "node:readline";
import {
  ProofKeys, authenticateBearer, authenticateHmac, isTooLarge, isToolCalls, readToolCalls, refuseReplay, usedProofs,
} from "./vapi-webhook.mjs";
import { ProofError, changedOverrides, verifyPatient } from "./verify-patient.mjs";

let keys;
const used = usedProofs();

const commands = {
  hmac: ({ body, signature, timestamp, ...options }) =>
    authenticateHmac(Buffer.from(body, "base64"), signature, timestamp, options),
  bearer: ({ authorization, token }) => authenticateBearer(authorization, { token }),
  tool_calls: ({ message }) => readToolCalls(message).map(({ id, name, args }) => [id, name, args]),
  keys: ({ url, max_age: maxAge, cooldown, max_stale: maxStale }) => {
    keys = new ProofKeys(url, { maxAge, cooldown, maxStale });
  },
  verify: async ({ times, proof, call, ...expected }) =>
    (await Promise.all(Array.from({ length: times }, () => keys.verify(proof, call, expected))))[0],
  patient: ({ proof, call, ...options }) => verifyPatient(proof, call, options),
  changed: ({ call, allowed }) => changedOverrides(call, allowed),
  ignores: ({ message }) => !isToolCalls(message),
  too_large: ({ length }) => isTooLarge(length),
  replay: ({ claims, call }) => refuseReplay(claims, call, used),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...options } = JSON.parse(line);
  let result;
  try {
    result = { value: (await commands[command](options)) ?? null };
  } catch (error) {
    result = error instanceof ProofError ? { reason: error.reason, text: error.message } : { crash: error.stack };
  }
  console.log(JSON.stringify(result));
}
