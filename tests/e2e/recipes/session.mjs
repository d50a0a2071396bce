// Runs docs/clients/session.js: one session, and what it took to get it.
import { getSession, inWords } from "./session.js";

const { tokens, ...options } = JSON.parse(process.argv[2]);
let refreshes = 0;
let asked = 0;
const { fetch } = globalThis;
globalThis.fetch = (...request) => {
  asked += 1;
  return fetch(...request);
};
const started = performance.now();
const report = { refreshes: 0 };
try {
  report.session = await getSession({
    ...options,
    getToken: async () => tokens[0],
    refreshToken: async () => tokens[(refreshes += 1)],
  });
} catch (error) {
  report.code = error.code;
  report.status = error.status;
  report.requestId = error.requestId;
  report.words = inWords(error);
}
console.log(JSON.stringify({ ...report, refreshes, asked, seconds: (performance.now() - started) / 1000 }));
