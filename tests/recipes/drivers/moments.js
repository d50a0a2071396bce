// The moments of a call at which a driver acts, and the operations that are under way.
let listener = () => {};
let underWay = 0;

/** Call back with the name of each moment, synchronously. */
export const onMoment = (callback) => (listener = callback);

/** Report a moment, then let everything else run. */
export async function moment(name) {
  listener(name);
  await turn();
}

const turn = () => new Promise((resolve) => setTimeout(resolve));

/** Count a promise among the operations under way. */
export async function during(promise) {
  underWay += 1;
  try {
    return await promise;
  } finally {
    underWay -= 1;
  }
}

/** Wait until nothing has been under way for twenty turns of the event loop. */
export async function idle() {
  for (let quiet = 0; quiet < 20; quiet += 1) {
    await turn();
    if (underWay > 0) quiet = 0;
  }
}

// A response arrives, and its receiver does not know yet.
const { fetch } = globalThis;
globalThis.fetch = (url, init) => during((async () => {
  const response = await fetch(url, init);
  await moment(String(url).endsWith("/call/web") ? "call created" : "session");
  return response;
})());

/** Let an SDK report no progress. */
export function ignoreProgress({ prototype }) {
  const { emit } = prototype;
  prototype.emit = function (event, ...values) {
    return event !== "call-start-progress" && emit.call(this, event, ...values);
  };
}
