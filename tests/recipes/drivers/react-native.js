// Runs the React Native recipe in Node.js, with React and Vapi's own SDK, and prints a report.
import Sdk from "@vapi-ai/react-native";
import { createElement } from "react";
import { create } from "react-test-renderer";
import { useVoiceCall } from "../react-native.js";
import { faults, microphones } from "./daily.js";
import { idle, ignoreProgress, onMoment } from "./moments.js";

const { hangUpAt, leaveAt, joinFault, withoutProgress, refuseMicrophone, until, tokens, ...options } = JSON.parse(process.argv[2]);
const auth = { getToken: async () => tokens[0], refreshToken: async () => tokens[1] };
const states = [];
let current;
console.warn = () => {};
console.error = () => {};
faults.join = joinFault;
if (withoutProgress) ignoreProgress(Sdk);
if (refuseMicrophone) options.askForMicrophone = () => Promise.reject(new Error("refused"));

function Screen() {
  current = useVoiceCall({ ...options, auth });
  states.push([current.state, current.message]);
  return null;
}

async function main() {
  const screen = create(createElement(Screen));
  await idle();
  onMoment((name) => {
    if (name === hangUpAt) current.stop();
    if (name === leaveAt) screen.unmount();
  });
  current.start();
  current.start(); // a second tap
  if (hangUpAt === "tap") current.stop();
  if (leaveAt === "tap") screen.unmount();
  await idle();
  while (until && current.state !== until) await idle();
  const open = microphones.map(({ readyState }) => readyState);
  console.log(JSON.stringify({ states, microphones: open }));
  process.exit(0);
}

main();
