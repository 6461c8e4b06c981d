// Runs models in a Worker of a tab: fetches, creates the session, runs, and reports each step to the pool.
//
// Nothing here decides anything: the pool says which provider, how many iterations more, and when it is too late.

const tab = new URLSearchParams(self.location.search).get("tab");
const base = new URL("..", self.location.href).href;

// The build of ONNX Runtime Web that has each provider.
const RUNTIMES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs", webnn: "ort.all.min.mjs" };

// Longest time without a report while iterations are timed, in milliseconds; a report costs about one.
const BATCH_MS_MAX = 1000;

// Longest wait for the news of a device's loss after a failure, in milliseconds.
const LOSS_MS_MAX = 300;

// Tensor elements by their names in ONNX Runtime Web.
const ELEMENTS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
};

let ort = null;
let platform = null;
// The model that is ready: { key, session }.
let warm = null;
// Why the GPU device is gone, if it is.
let lostBecause = null;
let usesDevice = false;
let onLost = () => {};

class Failure extends Error {
  constructor(phase, cause, message) {
    super(message);
    this.phase = phase;
    this.cause = cause;
  }
}

async function report(message) {
  const reply = await fetch(`${base}tabs/${tab}/reports`, { method: "POST", body: JSON.stringify(message) });
  if (!reply.ok) throw new Error(`the pool answered ${reply.status} to a report`);
  return reply.json();
}

// ONNX Runtime makes its own device; this is how its loss is seen.
function watchDevices() {
  if (typeof GPUAdapter === "undefined") return;
  const requestDevice = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...parameters) {
    const device = await requestDevice.apply(this, parameters);
    usesDevice = true;
    device.lost.then((lost) => {
      if (lost.reason === "destroyed") return;
      lostBecause = lost.message || String(lost.reason);
      onLost();
    });
    return device;
  };
}

async function describeAdapter() {
  if (!navigator.gpu) throw new Failure("adapter", "unavailable", "this browser has no navigator.gpu here");
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new Failure("adapter", "unavailable", "navigator.gpu gives no adapter");
  const { vendor = "", architecture = "", device = "", description = "" } = adapter.info;
  const limits = {};
  for (const name in adapter.limits) {
    const limit = adapter.limits[name];
    if (typeof limit === "number") limits[name] = limit;
  }
  const isFallback = adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  const features = [...adapter.features].sort();
  return { vendor, architecture, device, description, is_fallback: isFallback, features, limits };
}

async function loadRuntime(command) {
  if (ort) {
    if (platform !== command.platform) throw new Failure("runtime", "page", `this Worker already runs ${platform}`);
    return;
  }
  platform = command.platform;
  ort = await import(`${base}runtime/${RUNTIMES[platform]}`);
  ort.env.wasm.wasmPaths = `${base}runtime/`;
  ort.env.wasm.numThreads = command.threads;
  ort.env.logLevel = command.kind === "verify" ? "verbose" : "error";
}

function provider() {
  if (platform === "webnn") return { name: "webnn", deviceType: "cpu" };
  return { name: platform };
}

async function fetchModel(command, cache) {
  const response = await fetch(`${base}${command.model.path}`, { cache });
  if (!response.ok) throw new Failure("fetch", "fetch", `the pool answered ${response.status} to a request for the model`);
  return new Uint8Array(await response.arrayBuffer());
}

async function fetchInputs(command) {
  const feeds = {};
  for (const { name, element, dims, path } of command.inputs) {
    const response = await fetch(`${base}${path}`, { cache: "no-store" });
    if (!response.ok) throw new Failure("fetch", "fetch", `the pool answered ${response.status} to a request for input ${name}`);
    const Elements = ELEMENTS[element];
    if (!Elements) throw new Failure("fetch", "job", `input ${name} has element type ${element}, which is not known here`);
    feeds[name] = new ort.Tensor(element, new Elements(await response.arrayBuffer()), dims);
  }
  return feeds;
}

async function createSession(command, bytes, options) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: [provider()], ...options });
  } catch (error) {
    throw new Failure("session", "session", messageOf(error));
  }
}

// Rejects when the device is lost, for runtimes that then wait for ever. One that fails instead does so before the
// loss is told, so a failure waits a moment for the better reason.
async function unlessLost(work) {
  if (lostBecause !== null) throw new Failure("run", "device-lost", lostBecause);
  const lost = new Promise((_, reject) => {
    onLost = () => reject(new Failure("run", "device-lost", lostBecause));
  });
  try {
    return await Promise.race([work, lost]);
  } catch (error) {
    if (usesDevice) await Promise.race([lost, new Promise((resolve) => setTimeout(resolve, LOSS_MS_MAX))]);
    throw error;
  } finally {
    onLost = () => {};
  }
}

async function run(command) {
  const began = performance.now();
  const { job } = command;
  const times = { fetch_ms: 0, session_ms: 0 };
  await report({ kind: "phase", job, phase: "fetch" });
  await loadRuntime(command);
  if (warm && warm.key !== command.model.key) throw new Failure("runtime", "page", "this Worker holds another model");
  if (!warm) {
    const fetching = performance.now();
    const bytes = await fetchModel(command, "default");
    const creating = performance.now();
    times.fetch_ms = creating - fetching;
    await report({ kind: "phase", job, phase: "session" });
    const session = await unlessLost(createSession(command, bytes, {}));
    times.session_ms = performance.now() - creating;
    warm = { key: command.model.key, session };
  }
  const feeds = await fetchInputs(command);
  await report({ kind: "phase", job, phase: "first-run" });
  const first = await measureOne(feeds);
  times.first_run_ms = first.ms;
  if (command.keep_outputs) await sendOutputs(job, first.outputs);
  await report({ kind: "phase", job, phase: "warm-up" });
  for (let done = 1; done < command.warmup_iterations; done++) await measureOne(feeds);
  await report({ kind: "phase", job, phase: "timed" });
  await measureMany(command, feeds);
  times.total_ms = performance.now() - began;
  const adapter = platform === "webgpu" ? await describeAdapter() : null;
  await report({ kind: "done", job, ...times, backend_version: ort.env.versions.web, threads: ort.env.wasm.numThreads, adapter });
}

async function measureOne(feeds) {
  const began = performance.now();
  let outputs;
  try {
    outputs = await unlessLost(warm.session.run(feeds));
  } catch (error) {
    throw error instanceof Failure ? error : new Failure("run", "run", messageOf(error));
  }
  return { ms: performance.now() - began, outputs };
}

async function measureMany(command, feeds) {
  const began = performance.now();
  let more = command.iterations_first;
  while (more > 0) {
    const ms = [];
    const ended_ms = [];
    const batchBegan = performance.now();
    while (ms.length < more && (ms.length === 0 || performance.now() - batchBegan < BATCH_MS_MAX)) {
      ms.push((await measureOne(feeds)).ms);
      ended_ms.push(performance.now() - began);
    }
    ({ more } = await report({ kind: "iterations", job: command.job, ms, ended_ms }));
  }
}

async function sendOutputs(job, outputs) {
  for (const [name, tensor] of Object.entries(outputs)) {
    const query = new URLSearchParams({ job, name, element: tensor.type, dims: tensor.dims.join(",") });
    const { buffer, byteOffset, byteLength } = await tensor.getData();
    const body = new Uint8Array(new Uint8Array(buffer, byteOffset, byteLength));
    const reply = await fetch(`${base}tabs/${tab}/outputs?${query}`, { method: "POST", body });
    if (!reply.ok) throw new Failure("outputs", "fetch", `the pool answered ${reply.status} to output ${name}`);
  }
}

// Counts nodes per provider from what ONNX Runtime says when it is told to say everything.
async function verify(command) {
  const nodes = {};
  const listen = (...parts) => {
    for (const [, name, count] of parts.join(" ").matchAll(/placed on \[(\w+)\]\. Number of nodes: (\d+)/g)) {
      nodes[name] = (nodes[name] ?? 0) + Number(count);
    }
  };
  for (const level of ["debug", "log", "info", "warn", "error"]) console[level] = listen;
  await report({ kind: "phase", job: command.job, phase: "verification" });
  await loadRuntime(command);
  const bytes = await fetchModel(command, "no-store");
  await unlessLost(createSession(command, bytes, { logSeverityLevel: 0, logVerbosityLevel: 0 }));
  await report({ kind: "verified", job: command.job, nodes });
}

// A tiny graph, computed and compared: a provider that cannot do this cannot do anything.
async function probe(command) {
  const began = performance.now();
  await report({ kind: "phase", job: command.job, phase: "probe" });
  const adapter = command.platform === "webgpu" ? await describeAdapter() : null;
  if (command.platform === "webnn" && !navigator.ml) {
    throw new Failure("probe", "unavailable", "this browser has no navigator.ml here");
  }
  await loadRuntime(command);
  const bytes = await fetchModel(command, "default");
  const session = await unlessLost(createSession(command, bytes, {}));
  const feeds = { x: new ort.Tensor("float32", Float32Array.from(command.x), command.dims) };
  const { y } = await unlessLost(session.run(feeds));
  const computed = Array.from(await y.getData());
  await session.release();
  await report({
    kind: "probed",
    job: command.job,
    computed,
    adapter,
    took_ms: performance.now() - began,
    threads: self.crossOriginIsolated ? navigator.hardwareConcurrency : 1,
    backend_version: ort.env.versions.web,
  });
}

function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

const COMMANDS = { run, verify, probe };

self.onmessage = async ({ data: command }) => {
  try {
    await COMMANDS[command.kind](command);
  } catch (error) {
    const { phase = "page", cause = "page" } = error instanceof Failure ? error : {};
    await report({ kind: "failed", job: command.job, phase, cause, message: messageOf(error) });
  }
  if (command.kind === "verify" || command.kind === "probe") self.postMessage("ended");
};

watchDevices();
report({ kind: "ready", isolated: self.crossOriginIsolated, user_agent: navigator.userAgent }).catch(console.error);
