// Runs session.js once and prints the session or the error, and what it took.
import { getSession, inWords } from "../session.js";

const { tokens, ...options } = JSON.parse(process.argv[2]);
let refreshes = 0;
let requests = 0;
const { fetch } = globalThis;
globalThis.fetch = (...request) => {
  requests += 1;
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
console.log(JSON.stringify({ ...report, refreshes, requests, seconds: (performance.now() - started) / 1000 }));
