// The picture that was chosen, looked at before it is sent; the service looks again.

const SIGNATURES = [
  ["PNG", /^\x89PNG\r\n\x1a\n/],
  ["JPEG", /^\xff\xd8\xff/],
  ["WebP", /^RIFF[^]{4}WEBP/],
];
const FORM_BYTES = 4096; // What the other fields come to, generously.

/** Read a file as `{file, kind, bitmap, url}`. Throws an Error whose message is for people. */
export async function readPicture(file, limits) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 16).arrayBuffer()));
  const kind = SIGNATURES.find(([, signature]) => signature.test(head))?.[0];
  if (!kind) throw new Error("This is no PNG, JPEG or WebP file.");
  if (file.size + FORM_BYTES > limits.max_body_bytes) {
    throw new Error(
      `The file has ${inBytes(file.size)}; ${inBytes(limits.max_body_bytes)} are taken.`,
    );
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("The picture is damaged, or of a sort that this browser cannot show.");
  }
  const pixels = bitmap.width * bitmap.height;
  if (pixels > limits.max_input_pixels) {
    bitmap.close();
    throw new Error(
      `The picture has ${inPixels(pixels)}; ${inPixels(limits.max_input_pixels)} are taken.`,
    );
  }
  return { file, kind, bitmap, url: URL.createObjectURL(file) };
}

/** Sides of the result, as the service computes them. */
export function outputSize({ width, height }, scale) {
  return [width, height].map((side) => Math.floor(scale * side + 0.5));
}

export function inBytes(bytes) {
  if (bytes < 2 ** 20) return `${Math.ceil(bytes / 1024)} KiB`;
  return `${(bytes / 2 ** 20).toFixed(bytes < 1e7 ? 1 : 0)} MiB`;
}

export const inPixels = (count) => `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} megapixels`;
