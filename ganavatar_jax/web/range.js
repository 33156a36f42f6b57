// How far a normalised code lies from those that the avatar has seen; as faces/code_range.py.

/**
 * Scores a code by its distance to the nearest seen ones, in units of what is usual among these.
 *
 * @param {ArrayLike<number>} normalized the code, not cut off.
 * @param {{seen: {shape, data}, unit: number, neighbors: number}} range
 * @returns {number} up to 1 is inside.
 */
export function scoreRange(normalized, range) {
  const [count, width] = range.seen.shape;
  const nearest = new Array(range.neighbors).fill(Infinity);
  for (let row = 0; row < count; row++) {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += (normalized[k] - range.seen.data[row * width + k]) ** 2;
    for (let place = 0; place < nearest.length; place++) {
      if (sum < nearest[place]) [nearest[place], sum] = [sum, nearest[place]];
    }
  }
  return nearest.reduce((sum, square) => sum + Math.sqrt(square), 0) / nearest.length / range.unit;
}
