// Prints the text that session.js has for each code.
import { SessionError, inWords } from "../session.js";

const { codes, retryAfter } = JSON.parse(process.argv[2]);
const words = codes.map((code) => [code, inWords(new SessionError(code, "", { retryAfter }))]);
console.log(JSON.stringify(Object.fromEntries(words)));
