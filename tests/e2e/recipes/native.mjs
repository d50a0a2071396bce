// Runs the recipe for React Native: taps start, waits for the call, taps stop.
import { render } from "react";
import { useVoiceCall } from "./recipe.js";

const { tokens, ...options } = JSON.parse(process.argv[2]);
const auth = { getToken: async () => tokens[0], refreshToken: async () => tokens[1] };
const states = [];
console.warn = () => {};
const screen = render(() => useVoiceCall({ ...options, auth }), ({ state, message }) => states.push([state, message]));
const tapped = screen.current.start();
screen.current.start(); // a second tap, which must not start a second call
await tapped;
screen.current.stop();
screen.leave();
console.log(JSON.stringify({ states }));
