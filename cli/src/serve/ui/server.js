// What the page asks the server. The key stays in this tab: sessionStorage, and no address has it.

const KEY = "qwenguard-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** The server refused, or was not reached. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const at = (path) => new URL(path, document.baseURI);

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(at(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server was not reached.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Refused(response.status, body?.error?.message ?? `The server answered ${response.status}.`);
}

export const info = async () => (await ask("info")).json();
export const metrics = async () => (await ask("metrics")).text();

export async function post(path, body, signal) {
  const response = await ask(path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal });
  return response.json();
}

/** The key as the name of a protocol: browsers give a WebSocket no other header. */
function protocols() {
  if (!key.get()) return ["qwenguard"];
  const bytes = new TextEncoder().encode(key.get());
  const encoded = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["qwenguard", `qwenguard.key.${encoded}`];
}

/** One conversation over a WebSocket: a call at a time, each with its answer. */
export async function openStream() {
  const address = at("v1/guard/stream");
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, protocols());
  let waiting = null;
  const fail = (message) => {
    waiting?.reject(new Refused(0, message));
    waiting = null;
  };
  socket.addEventListener("message", ({ data }) => {
    const body = JSON.parse(data);
    if (body.type === "error") waiting?.reject(new Refused(400, body.error.message));
    else waiting?.resolve(body);
    waiting = null;
  });
  socket.addEventListener("close", () => fail("The server closed the connection."));
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve, { once: true });
    socket.addEventListener("error", () => reject(new Refused(0, "The WebSocket could not be opened: the key may be wrong, or the server busy.")), { once: true });
  });
  const call = (message) =>
    new Promise((resolve, reject) => {
      if (socket.readyState !== WebSocket.OPEN) return reject(new Refused(0, "The connection is closed."));
      waiting = { resolve, reject };
      socket.send(JSON.stringify(message));
    });
  return { call, close: () => socket.close() };
}
