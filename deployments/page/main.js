// The playground: a picture and its fields become a job, whose events are shown as they come.

import { Problem, body, call, hasKey, useKey } from "./api.js";
import { curlOf } from "./curl.js";
import { eventsOf } from "./events.js";
import { check, fieldsOf, fillIn, showSizes, takePreset } from "./form.js";
import { inBytes, outputSize, readPicture } from "./picture.js";
import * as view from "./view.js";

const { $, show } = view;

let model = null;
let picture = null;
let running = null; // {fields, job, controller} of the job under way
let lastSeed = null;
let resultUrl = null;

async function loadModel() {
  show("problem", false);
  try {
    const answer = await call("v1/models");
    [model] = (await body(answer, "json")).models;
    const millions = Math.round(model.parameters / 1e6);
    const size = millions > 0 ? `, ${millions} million parameters` : "";
    $("model").textContent = `${model.name}${size}, on ${model.device}`;
    show("access", false);
    fillIn(model);
    revise();
  } catch (error) {
    $("model").textContent = "";
    if (error.status !== 401) return view.showProblem(asProblem(error), loadModel);
    show("access", true);
    $("key").focus();
    // A first visit is no mistake.
    if (hasKey()) view.showProblem(error, loadModel);
  }
}

async function choose(file) {
  if (!file || running) return;
  if (!model) {
    $("wrong").textContent = "The service has to answer first.";
    return;
  }
  try {
    const chosen = await readPicture(file, model.limits);
    forget();
    picture = chosen;
  } catch (error) {
    $("file").value = "";
    $("wrong").textContent = error.message;
    return;
  }
  $("thumb").src = picture.url;
  show("thumb", true);
  $("drop-text").textContent = file.name;
  $("file-note").textContent = `${picture.kind}, ${inBytes(file.size)}`;
  view.showStart(picture, null);
  revise();
}

function forget() {
  picture?.bitmap.close();
  if (picture) URL.revokeObjectURL(picture.url);
  show("request", false);
}

function revise() {
  const right = check(picture, model);
  showSizes(picture);
  $("go").disabled = !picture || !right || running !== null;
  $("same-seed").disabled = lastSeed === null;
}

async function upscale(fields) {
  if (running) return;
  const run = { fields, job: null, controller: new AbortController() };
  running = run;
  setBusy(true);
  view.showStart(picture, "Sending");
  $("stage").scrollIntoView({ block: "nearest" });
  try {
    await carryOut(run);
  } catch (error) {
    if (error.name === "AbortError" || error.code === "job_cancelled") {
      view.showCancelled(picture);
    } else {
      if (error.status === 401) show("access", true);
      view.showProblem(asProblem(error), () => upscale(run.fields));
    }
  } finally {
    running = null;
    setBusy(false);
  }
}

async function carryOut(run) {
  const { signal } = run.controller;
  showRequest(run.fields);
  const job = await submit(run.fields, signal);
  run.job = job.id;
  lastSeed = job.seed;
  // With its seed, a lost job's picture comes out the same, and so does the command's.
  run.fields = [...run.fields.filter(([name]) => name !== "seed"), ["seed", String(job.seed)]];
  showRequest(run.fields);
  for await (const { name, data } of eventsOf(job.id, signal)) {
    if (name === "queued") view.showQueued(data);
    if (name === "step") view.showStep(data);
    if (name === "preview") view.showPreview(data);
    if (name === "lost") view.say("Connecting again");
    if (name === "failed") throw new Problem(data);
  }
  view.say("Fetching the result");
  // No Accept header: whatever format was asked for.
  const answer = await call(`v1/jobs/${encodeURIComponent(job.id)}/result`, { signal });
  const blob = await body(answer, "blob");
  if (resultUrl) URL.revokeObjectURL(resultUrl);
  resultUrl = URL.createObjectURL(blob);
  const values = Object.fromEntries(run.fields);
  const size = outputSize(picture.bitmap, Number(values.scale));
  view.showResult(picture, { url: resultUrl, headers: answer.headers }, size);
  $("download").href = resultUrl;
  const stem = picture.file.name.replace(/\.[^.]*$/, "") || "picture";
  $("download").download = `${stem}-x${values.scale}.${values.output_format}`;
}

async function submit(fields, signal) {
  const form = new FormData();
  form.append("image", picture.file);
  for (const [name, value] of fields) form.append(name, value);
  const headers = { Prefer: "respond-async" };
  return body(await call("v1/upscale", { method: "POST", body: form, headers, signal }), "json");
}

function showRequest(fields) {
  const { output_format } = Object.fromEntries(fields);
  $("curl").textContent = curlOf({
    url: new URL("v1/upscale", document.baseURI).href,
    fileName: picture.file.name,
    fields,
    output: `upscaled.${output_format}`,
    withKey: hasKey(),
  });
  show("request", true);
}

async function cancel(options = {}) {
  if (!running) return;
  const { job, controller } = running;
  view.say("Cancelling");
  if (job === null) return controller.abort();
  try {
    await call(`v1/jobs/${encodeURIComponent(job)}`, { method: "DELETE", ...options });
  } catch (error) {
    // A job that cannot be cancelled goes on, and is shown to.
    if (error instanceof Problem) view.say(error.title);
  }
}

function setBusy(busy) {
  $("fields").disabled = busy;
  $("file").disabled = busy;
  $("go").textContent = busy ? "Working …" : "Upscale";
  show("cancel", busy);
  revise();
  (busy ? $("cancel") : $("go")).focus({ preventScroll: true });
}

function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ title: "The page failed", detail: String(error), retryable: true });
}

async function copy() {
  const text = $("curl").textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // There is no clipboard on plain http, except on this machine itself.
    $("curl").closest("details").open = true;
    getSelection().selectAllChildren($("curl"));
    done = document.execCommand("copy");
  }
  $("copied").textContent = done ? "Copied" : "Copy what is marked";
  setTimeout(() => ($("copied").textContent = ""), 3000);
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (picture && !running && check(picture, model)) upscale(fieldsOf(model));
});
$("form").addEventListener("input", (event) => {
  if (model && event.target.closest("#fields")) revise();
});
$("preset").addEventListener("change", () => {
  takePreset(model);
  revise();
});
$("file").addEventListener("change", () => choose($("file").files[0]));
$("use-key").addEventListener("click", () => {
  useKey($("key").value);
  loadModel();
});
$("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("use-key").click();
});
$("same-seed").addEventListener("click", () => {
  $("seed").value = lastSeed;
  revise();
});
$("cancel").addEventListener("click", () => cancel());
$("copy").addEventListener("click", copy);
$("zoom").addEventListener("click", () => view.zoom($("zoom").ariaPressed !== "true"));
document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover" && !running);
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
// Nobody would come for the result.
addEventListener("pagehide", (event) => event.persisted || cancel({ keepalive: true }));

loadModel();
