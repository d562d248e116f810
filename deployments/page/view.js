// What the page shows of a job. Words from the service are set as text, never as markup.

import { bicubic } from "./bicubic.js";

// Beyond this the browser's own enlargement does: some cannot hold a larger canvas.
const MAX_CANVAS_PIXELS = 16_000_000;

export const $ = (id) => document.getElementById(id);

export function show(id, visible) {
  $(id).hidden = !visible;
}

/** Show a problem; `retry` is called where it may help. */
export function showProblem(problem, retry) {
  show("progress", false);
  show("problem", true);
  $("problem-title").textContent = problem.title;
  const wait = problem.retryAfterS ? `the server asks to wait ${longer(problem.retryAfterS)}` : "";
  $("problem-detail").textContent = [problem.detail, wait].filter(Boolean).map(sentence).join(" ");
  $("problem-id").textContent = [problem.code, problem.requestId].filter(Boolean).join(" · ");
  show("retry", problem.retryable);
  $("retry").onclick = retry;
}

/** Clear the last job away and show the picture as it is. */
export function showStart(picture, words) {
  for (const id of ["problem", "done", "download", "comparison", "empty"]) show(id, false);
  // Its canvas may hold a lot of memory.
  $("comparison").replaceChildren();
  show("progress", words !== null);
  show("bar", true);
  show("preview", true);
  $("preview").style.setProperty("--ratio", picture.bitmap.width / picture.bitmap.height);
  $("preview").src = picture.url;
  $("preview").alt = "Your picture";
  $("bar").removeAttribute("value");
  if (words !== null) say(words);
}

export function showCancelled(picture) {
  showStart(picture, "Cancelled");
  show("bar", false);
}

export function say(words, etaS) {
  $("said").textContent = words;
  $("eta").textContent = etaS > 0 ? `about ${longer(etaS)} left` : "";
}

export function showQueued({ position, eta_s }) {
  const others = `${position} ${position === 1 ? "picture" : "pictures"}`;
  say(position > 0 ? `Waiting, ${others} first` : "Next in line", eta_s);
}

export function showStep({ step, of, eta_s }) {
  say(`Step ${step} of ${of}`, eta_s);
  $("bar").max = of;
  $("bar").value = step;
}

export function showPreview({ image, media_type }) {
  if (!/^image\/(jpeg|png|webp)$/.test(media_type)) return;
  $("preview").src = `data:${media_type};base64,${image}`;
  $("preview").alt = `Preview, ${$("said").textContent.toLowerCase()}`;
}

/** Show the end of a job: `result` is `{url, headers}` of the picture, `[width, height]` its size. */
export function showResult(picture, result, [width, height]) {
  for (const id of ["progress", "preview"]) show(id, false);
  const slider = document.createElement("img-comparison-slider");
  const before = enlarged(picture, width, height);
  before.slot = "first";
  const after = new Image(width, height);
  after.slot = "second";
  after.alt = "";
  after.src = result.url;
  slider.append(before, after);
  asSlider(slider);
  slider.style.setProperty("--ratio", width / height);
  slider.style.setProperty("--width", `${width}px`);
  $("comparison").replaceChildren(slider);
  zoom(false);
  show("comparison", true);
  $("sentence").textContent = sentenceOf(result.headers);
  showFacts(result.headers, width, height);
  show("done", true);
  show("download", true);
}

/** Switch between the whole picture and its own pixels. */
export function zoom(actual) {
  $("comparison").classList.toggle("actual", actual);
  $("zoom").setAttribute("aria-pressed", String(actual));
}

function enlarged(picture, width, height) {
  if (width * height <= MAX_CANVAS_PIXELS) {
    $("left").textContent = "← your picture, bicubic";
    return bicubic(picture.bitmap, width, height);
  }
  $("left").textContent = "← your picture, enlarged by the browser";
  const image = new Image(width, height);
  image.alt = "";
  image.src = picture.url;
  return image;
}

/** Tell assistive technology what the element is, and where it stands. */
function asSlider(slider) {
  const tell = () => slider.setAttribute("aria-valuenow", String(Math.round(slider.value)));
  slider.setAttribute("role", "slider");
  slider.setAttribute("aria-label", "Share of the picture that shows the bicubic enlargement, %");
  slider.setAttribute("aria-valuemin", "0");
  slider.setAttribute("aria-valuemax", "100");
  slider.addEventListener("slide", tell);
  tell();
}

function sentenceOf(headers) {
  if (headers.get("X-Consistency-Exact") === "?1") {
    return "Scaled down, this picture gives yours back, bit for bit.";
  }
  const psnr = headers.get("X-Consistency-PSNR");
  const lossy = headers.get("Content-Type") === "image/jpeg";
  const why = lossy ? " JPEG is lossy; PNG and WebP can give it back exactly." : "";
  return `Scaled down, this picture gives yours back with a PSNR of ${psnr} dB.${why}`;
}

function showFacts(headers, width, height) {
  // Server-Timing: decode;dur=1.2, queue;dur=0.1, …
  const timings = (headers.get("Server-Timing") ?? "").matchAll(/(\w+);dur=([\d.]+)/g);
  const facts = [
    ["size", `${width} × ${height}`],
    ["seed", headers.get("X-Seed")],
    ["model", decodeURIComponent(headers.get("X-Model"))],
    ...[...timings].map(([, name, ms]) => [name, duration(ms / 1000)]),
  ];
  $("facts").replaceChildren(
    ...facts.map(([name, value]) => {
      const fact = document.createElement("div");
      const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
      dt.textContent = name;
      dd.textContent = value;
      fact.append(dt, dd);
      return fact;
    }),
  );
}

/** A detail of the service's begins in lower case and has no full stop. */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(1000 * seconds)} ms`;
  return seconds < 9.95 ? `${seconds.toFixed(1)} s` : longer(seconds);
}

function longer(seconds) {
  if (seconds < 119.5) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}
