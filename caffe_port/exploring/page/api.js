// Requests to the server, their answers, and what happens when the server was restarted.

const KINDS = {uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array};

export class ApiError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

// The head and the arrays of an answer: see Answer.packed in jobs.py.
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const found = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const {name, dtype, shape, at} of found.arrays) {
    const size = shape.reduce((product, side) => product * side, 1);
    arrays[name] = new KINDS[dtype](buffer, 4 + length + at, size);
    arrays[name].shape = shape;
  }
  return {head: found.head, ...arrays};
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {cache: "no-store", ...options});
  } catch (error) {
    if (error.name === "AbortError") throw new ApiError("cancelled", "dropped");
    throw new ApiError("The server does not answer. Start it again, and open its address.", "offline");
  }
  if (!response.ok) {
    const text = await response.text();
    let found;
    try {
      found = JSON.parse(text);
    } catch {
      found = {error: `The server answers with status ${response.status}.`, code: "fault"};
    }
    throw new ApiError(found.error, found.code);
  }
  const type = response.headers.get("content-type") || "";
  try {
    return type.startsWith("application/json") ? await response.json() : unpack(await response.arrayBuffer());
  } catch (error) {
    if (error.name === "AbortError") throw new ApiError("cancelled", "dropped");
    throw new ApiError("The server's answer was cut off.", "offline");
  }
}

const json = (body) => ({method: "POST", body: JSON.stringify(body || {})});

export const subject = () => call("api/subject");
export const ofModel = (what, body, signal) => call(`api/model/${what}`, {...json(body), signal});

let session = null;
let restore = async () => {};

// Sets what sends the image again after the server was restarted.
export function onRestart(function_) {
  restore = function_;
}

async function opened() {
  if (session === null) session = (await call("api/sessions", json())).session;
  return session;
}

// A request of this page's session, such as "crf" or "image?name=a.jpg"; the body is a file or JSON.
export async function ofImage(what, body, signal, again = true) {
  const options = body instanceof Blob ? {method: "POST", body} : json(body);
  try {
    return await call(`api/sessions/${await opened()}/${what}`, {...options, signal});
  } catch (error) {
    if (error.code !== "session" || !again) throw error;
    session = null;
    if (!what.startsWith("image")) await restore();
    return ofImage(what, body, signal, false);
  }
}

export function close() {
  if (session !== null) navigator.sendBeacon(`api/sessions/${session}/close`);
  session = null;
}

// Runs one request at a time, and of those that come meanwhile only the last one.
export class Latest {
  constructor(run, failed) {
    this.run = run;
    this.failed = failed;
    this.next = null;
    this.idle = Promise.resolve();
    this.busy = false;
  }

  ask(value) {
    this.next = {value};
    if (!this.busy) this.idle = this.work();
    return this.idle;
  }

  async work() {
    this.busy = true;
    while (this.next) {
      const {value} = this.next;
      this.next = null;
      try {
        await this.run(value);
      } catch (error) {
        if (error.code !== "dropped") this.failed(error);
      }
    }
    this.busy = false;
  }
}
