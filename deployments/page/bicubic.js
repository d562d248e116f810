// Pillow's bicubic enlargement (Keys 1981 with a = -0.5), for comparison: a canvas's own smoothing
// is some filter of the browser's choice.

const A = -0.5;

function keys(x) {
  const t = Math.abs(x);
  if (t < 1) return ((A + 2) * t - (A + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * A : 0;
}

/** For each of `count` samples: where its taps begin among the `from` given, and their weights. */
function tapsOf(from, count) {
  return Array.from({ length: count }, (_, index) => {
    const centre = ((index + 0.5) * from) / count;
    const first = Math.max(0, Math.trunc(centre - 1.5));
    const end = Math.min(from, Math.trunc(centre + 2.5));
    const weights = [];
    for (let at = first; at < end; at++) weights.push(keys(at + 0.5 - centre));
    const sum = weights.reduce((a, b) => a + b);
    return [first, weights.map((weight) => weight / sum)];
  });
}

/** Enlarge a bitmap onto a new canvas; colour is weighted by alpha. */
export function bicubic(bitmap, width, height) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  context.drawImage(bitmap, 0, 0);
  const given = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  for (let i = 0; i < given.length; i += 4) {
    for (let c = 0; c < 3; c++) given[i + c] *= given[i + 3] / 255;
  }
  // Rounded and clipped between the two passes, as Pillow does.
  const wide = new Uint8ClampedArray(width * bitmap.height * 4);
  const across = tapsOf(bitmap.width, width);
  for (let y = 0; y < bitmap.height; y++) {
    across.forEach(([first, weights], x) => {
      const from = 4 * (y * bitmap.width + first);
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * given[from + 4 * k + c];
        wide[4 * (y * width + x) + c] = sum;
      }
    });
  }
  const result = new ImageData(width, height);
  const row = new Float32Array(4 * width);
  tapsOf(bitmap.height, height).forEach(([first, weights], y) => {
    row.fill(0);
    weights.forEach((weight, k) => {
      const from = 4 * width * (first + k);
      for (let i = 0; i < row.length; i++) row[i] += weight * wide[from + i];
    });
    const to = 4 * width * y;
    for (let i = 0; i < row.length; i += 4) {
      const alpha = Math.min(255, Math.max(0, row[i + 3]));
      for (let c = 0; c < 3; c++) result.data[to + i + c] = alpha && (row[i + c] * 255) / alpha;
      result.data[to + i + 3] = alpha;
    }
  });
  canvas.width = width;
  canvas.height = height;
  context.putImageData(result, 0, 0);
  return canvas;
}
