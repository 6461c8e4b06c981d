// The page of a tab: one stream of commands from the pool, one Worker that runs the model.
//
// The stream is also the tab's sign of life: it breaks the moment this page is gone, whoever killed it. A browser
// opens six connections to one server at most, so a tab holds this one only; reports are short.

const tab = new URLSearchParams(location.search).get("tab");
const base = new URL("..", location.href).href;

async function report(message) {
  const reply = await fetch(`${base}tabs/${tab}/reports`, { method: "POST", body: JSON.stringify(message) });
  if (!reply.ok) throw new Error(`the pool answered ${reply.status} to a report`);
}

// The job that each Worker is busy with, so that its death can be told.
const busyWith = new WeakMap();

function startWorker() {
  const worker = new Worker(`worker.js?tab=${tab}`, { type: "module" });
  const failed = (event) => {
    const message = event.message ?? String(event);
    report({ kind: "failed", job: busyWith.get(worker) ?? null, phase: "worker", cause: "worker", message }).catch(
      console.error,
    );
  };
  worker.onerror = failed;
  worker.onmessageerror = failed;
  return worker;
}

// A Worker of its own, gone afterwards: verbose logs slow a runtime down for its whole life, and a runtime serves one
// platform only.
function aside(command) {
  const worker = startWorker();
  busyWith.set(worker, command.job);
  worker.onmessage = () => {
    worker.terminate();
    report({ kind: "aside-ended", job: command.job }).catch(console.error);
  };
  worker.postMessage(command);
}

function obey(command) {
  if (command.kind === "verify" || command.kind === "probe") {
    aside(command);
    return;
  }
  busyWith.set(measuring, command.job);
  measuring.postMessage(command);
}

async function listen() {
  const response = await fetch(`${base}tabs/${tab}/commands`);
  if (!response.ok) throw new Error(`the pool answered ${response.status} to a tab that asked for commands`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (pending + value).split("\n");
    pending = lines.pop();
    for (const line of lines) if (line) obey(JSON.parse(line));
  }
}

const measuring = startWorker();
listen().catch(console.error);
