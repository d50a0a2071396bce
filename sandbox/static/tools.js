// The fourth step: how the clinic's tool server verifies a call, with the verifier of docs/tools.
import { badge, el, fill, find, json } from "./dom.js";
import { read, show } from "./jwt.js";
import * as lab from "./lab.js";

const OTHERS = new Map(lab.config.patients.map(({ id }, i, all) => [id, all[(i + 1) % all.length].id]));
const nameOf = (id) => lab.config.patients.find((patient) => patient.id === id)?.name ?? id;

/**
 * Attacks of an app: `calls(session)` returns the variables of each call that it starts. Each call
 * calls the tool.
 */
export const ATTACKS = {
  "Claim to be another patient": async ({ patientProof, patientContext: { id } }) => [
    { patientProof: await lab.badProof("other_patient", patientProof, OTHERS.get(id)) },
  ],
  "Send an old proof": async ({ patientProof, patientContext: { id } }) => [
    { patientProof: await lab.badProof("old", patientProof, id) },
  ],
  "Use one proof for two calls": async ({ patientProof }) => [{ patientProof }, { patientProof }],
  "Send no proof": async () => [{}],
};

const MEANINGS = {
  missing: ["The call has no proof, so the tool does not know the patient.", "It reads nothing."],
  signature: ["The proof was changed: its signature does not verify.", "The app wrote another patient into its proof. Only the service can sign a proof."],
  window: ["The proof was not valid when this call began.", "The app sent a proof that was issued yesterday. A proof is valid for calls that begin soon after it was issued."],
  replayed: ["Another call has already used this proof.", "A proof is for one call. The tool server remembers which call used it first."],
};

/** Make a call call the tool, and show the result; resolves to a text for the flow and its state. */
export async function callTool(callId) {
  const { headers, webhook, text } = await lab.callTool(callId);
  const answer = JSON.parse(text);
  const [{ result, error }] = answer.results;
  showWebhook(headers, webhook);
  fill(find("tool-answer"), ...json(answer));
  return result ? verified(JSON.parse(result)) : refused(error);
}

function verified({ patient, results }) {
  badge(find("tools-badge"), "verified", "good");
  verdict(`The patient is ${nameOf(patient)}.`, `The tool read the results of this patient: ${results}.`, `sub: ${patient}`);
  return [`verified ${patient}`, "good"];
}

function refused(error) {
  const [reason] = error.split(":");
  const [head, todo] = MEANINGS[reason] ?? ["The tool server refuses this call.", ""];
  badge(find("tools-badge"), `refused: ${reason}`, "bad");
  verdict(head, todo, error);
  return [`refused: ${reason}`, "bad"];
}

function verdict(head, todo, words) {
  fill(find("tools-verdict"), el("p", { class: "head" }, head), el("p", { class: "todo" }, todo), el("p", {}, el("code", {}, words)));
}

function showWebhook(headers, webhook) {
  const rows = Object.entries(headers).flatMap(([name, value]) => [el("span", { class: "k" }, name), `: ${value}\n`]);
  fill(find("webhook"), ...rows, "\n", ...json(webhook));
  const proof = webhook.message.toolCallList[0].function.arguments.patientProof;
  const parts = read(proof);
  if (parts) show(find("proof"), proof, parts);
  else fill(find("proof"), el("p", { class: "empty" }, `There is none: patientProof is ${JSON.stringify(proof)}.`));
  find("tools-details").hidden = false;
}
