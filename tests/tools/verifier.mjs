// Runs docs/tools/verify-patient.mjs over the rows on standard input; prints what it made of each.
import { text } from "node:stream/consumers";
import { ProofError, verifyPatient } from "./verify-patient.mjs";

const results = [];
for (const { proof, call, ...options } of JSON.parse(await text(process.stdin))) {
  try {
    results.push({ patient: await verifyPatient(proof, call, options) });
  } catch (error) {
    results.push(error instanceof ProofError ? { reason: error.reason, text: error.message } : { crash: error.stack });
  }
}
console.log(JSON.stringify(results));
