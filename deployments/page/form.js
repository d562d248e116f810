// The form: its defaults, its checks, and its fields as the service takes them.

import { inPixels, outputSize } from "./picture.js";
import { $, show } from "./view.js";

/** Fill in a model's defaults, and show the fields that it has a use for. */
export function fillIn(model) {
  for (const name of ["scale", "guidance_scale"]) {
    if (name in model.defaults) $(name).value = model.defaults[name];
  }
  takePreset(model);
  show("prompts", model.prompts);
  $("fields").disabled = false;
}

/** Fill in what the chosen preset says of the fields that are shown. */
export function takePreset(model) {
  const values = { ...model.defaults, ...model.presets[$("preset").value] };
  for (const name of ["num_inference_steps", "guidance_strength"]) $(name).value = values[name];
}

/** The form's fields, `[name, value]`; those left empty are left out. */
export function fieldsOf(model) {
  const names = ["scale", "preset", "num_inference_steps", "guidance_strength", "output_format", "seed"];
  if (model.prompts) names.push("prompt", "negative_prompt", "guidance_scale");
  return names.map((name) => [name, $(name).value]).filter(([, value]) => value.trim() !== "");
}

/** Say what is wrong with the form, if anything; marks the field. */
export function check(picture, model) {
  $("scale").setCustomValidity(scaleProblem(picture, model));
  const inputs = [...$("fields").querySelectorAll("input")].filter((input) => input.offsetParent);
  for (const input of inputs) input.setAttribute("aria-invalid", String(!input.validity.valid));
  const first = inputs.find((input) => !input.validity.valid);
  $("wrong").textContent = first ? `${first.labels[0].textContent.trim()}: ${first.validationMessage}` : "";
  return !first;
}

function scaleProblem(picture, model) {
  const scale = $("scale").valueAsNumber;
  if (scale > 1 && scale < 1.1) return "1, or 1.1 and more.";
  const most = model.limits.max_output_pixels;
  if (!picture || !(scale >= 1)) return "";
  const [width, height] = outputSize(picture.bitmap, scale);
  if (width * height <= most) return "";
  return `The result would have ${inPixels(width * height)}; ${inPixels(most)} are made.`;
}

/** Say how large the result will be. */
export function showSizes(picture) {
  const scale = $("scale").valueAsNumber;
  const { width, height } = picture?.bitmap ?? {};
  const sized = picture && scale >= 1 && scale <= 16;
  $("sizes").textContent = sized
    ? `${width} × ${height} becomes ${outputSize(picture.bitmap, scale).join(" × ")}`
    : "";
}
