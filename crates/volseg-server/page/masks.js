// Masks and pixel positions: run-length text to masks, shown pixels to stored pixels and back. No page, no network.

/** Mask of COCO's compact run-length text: 0 or 1 a pixel, row by row. `size` is [columns, rows]. */
export function decodeRunLength(text, [width, height]) {
  const runs = [];
  for (let at = 0; at < text.length;) {
    let value = 0;
    let shift = 0;
    let bits;
    do {
      bits = text.charCodeAt(at++) - 48;
      value |= (bits & 0x1f) << shift;
      shift += 5;
    } while (bits & 0x20 && at < text.length);
    if (bits & 0x10) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  const mask = new Uint8Array(width * height);
  let at = 0;
  runs.forEach((run, n) => {
    for (let i = 0; i < run && at < mask.length; i++, at++) {
      if (n % 2) mask[(at % height) * width + Math.floor(at / height)] = 1;
    }
  });
  return mask;
}

/** Columns and rows of a slice as it is shown. */
export function shownSize({ size, frame }) {
  return frame.transposed ? [size[1], size[0]] : [...size];
}

/** Stored position of a shown one; both continuous, pixel edges at whole numbers. */
export function toStored(image, u, v) {
  const [w, h] = shownSize(image);
  if (image.frame.flip_columns) u = w - u;
  if (image.frame.flip_rows) v = h - v;
  return image.frame.transposed ? [v, u] : [u, v];
}

/** The inverse of toStored. */
export function toShown(image, x, y) {
  const [w, h] = shownSize(image);
  let [u, v] = image.frame.transposed ? [y, x] : [x, y];
  if (image.frame.flip_columns) u = w - u;
  if (image.frame.flip_rows) v = h - v;
  return [u, v];
}

/** A half-open box of stored pixels that holds two shown corners, kept inside the slice; null if it is empty. */
export function storedBox(image, from, to) {
  const [a, b] = [toStored(image, ...from), toStored(image, ...to)];
  const [w, h] = image.size;
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const box = [clamp(Math.min(a[0], b[0]), w), clamp(Math.min(a[1], b[1]), h),
    clamp(Math.max(a[0], b[0]), w), clamp(Math.max(a[1], b[1]), h)];
  return box[2] - box[0] >= 1 && box[3] - box[1] >= 1 ? box : null;
}

/** Ranks of four candidates from the order in which they were chosen, best first; null until all are. */
export function ranksOf(order) {
  if (order.length < 4) return null;
  return [0, 1, 2, 3].map((n) => order.indexOf(n) + 1);
}
