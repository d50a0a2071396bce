// One request and its answer, as data that can be shown, sent, and pasted into a shell.

/** Send the request and measure it; a network failure is an answer without a status. */
export async function send(request) {
  const started = performance.now();
  try {
    const response = await fetch(request.url, {
      method: request.method, headers: request.headers, body: request.body, cache: "no-store",
    });
    const text = await response.text();
    return {
      status: response.status, reason: response.statusText, headers: [...response.headers], text,
      milliseconds: performance.now() - started,
    };
  } catch (error) {
    return { status: 0, reason: String(error), headers: [], text: "", milliseconds: performance.now() - started };
  }
}

export const header = (answer, name) => answer.headers.find(([key]) => key.toLowerCase() === name)?.[1];

export function parsed(answer) {
  try {
    return JSON.parse(answer.text);
  } catch {
    return undefined;
  }
}

/** The request as HTTP/1.1 writes it; the browser adds `Host`, `Origin` and its own headers. */
export function asText(request) {
  const url = new URL(request.url);
  const lines = [`${request.method} ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`];
  for (const [name, value] of Object.entries(request.headers)) lines.push(`${name}: ${value}`);
  return { head: lines.join("\n"), body: request.body ?? "" };
}

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The same request as a line for a POSIX shell. */
export function asCurl(request) {
  const parts = ["curl -i", "-X", request.method, quote(request.url)];
  for (const [name, value] of Object.entries(request.headers)) parts.push("-H", quote(`${name}: ${value}`));
  if (request.body !== undefined) parts.push("--data-binary", quote(request.body));
  return parts.join(" ");
}
