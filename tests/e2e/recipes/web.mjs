// Runs the recipe for the web, with Vapi's real SDK; Node.js has no audio, so no call comes about.
import { startCall } from "./recipe.js";

const { tokens, ...options } = JSON.parse(process.argv[2]);
const shown = [];
console.warn = () => {};
await startCall({
  ...options,
  auth: { getToken: async () => tokens[0], refreshToken: async () => tokens[1] },
  show: (text) => shown.push(text),
});
console.log(JSON.stringify({ shown }));
process.exit(0);
