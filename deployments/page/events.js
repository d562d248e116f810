// Server-sent events by fetch: EventSource cannot send an Authorization header.

import { Problem, call } from "./api.js";

const SILENCE_MS = 45_000; // The service sends a comment every 15 s.
const LONGEST_PAUSE_MS = 15_000;

/**
 * A job's events, `{name, data}`, up to `done` or `failed`; a broken stream is taken up again after
 * the last event seen, and `lost` says so. Throws a Problem where the job is gone.
 */
export async function* eventsOf(job, signal) {
  let last = "0";
  let pauseMs = 500;
  for (;;) {
    try {
      const path = `v1/jobs/${encodeURIComponent(job)}/events`;
      const response = await call(path, { headers: { "Last-Event-ID": last }, signal });
      for await (const event of parsed(response.body)) {
        last = event.id;
        pauseMs = 500;
        yield event;
        if (event.name === "done" || event.name === "failed") return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && !error.retryable)) throw error;
    }
    yield { name: "lost", data: {} };
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    signal.throwIfAborted();
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }
}

async function* parsed(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await withinSilence(reader.read());
      if (done) return;
      const blocks = (text + value).split(/\r?\n\r?\n/);
      text = blocks.pop();
      for (const block of blocks) {
        const event = eventOf(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function withinSilence(reading) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("silence")), SILENCE_MS);
  });
  try {
    return await Promise.race([reading, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** An event of its lines; null where they are but comments. */
function eventOf(block) {
  const fields = { id: "0", event: "", data: "" };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  if (!fields.data) return null;
  return { id: fields.id, name: fields.event, data: JSON.parse(fields.data) };
}
