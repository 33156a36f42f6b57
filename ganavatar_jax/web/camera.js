// Cameras as the 25 numbers of files: cam2world row by row, then normalised intrinsics row by row.

/**
 * Carries a camera around the world origin, as geometry.trajectories.around does.
 *
 * @param {ArrayLike<number>} label25 where it starts.
 * @param {{yawDeg: number, pitchDeg: number, zoom: number}} view positive yaw moves a frontal camera
 *   to +x, positive pitch up; zoom lengthens the lens.
 * @returns {Float32Array} the 25 numbers.
 */
export function turnCamera(label25, { yawDeg, pitchDeg, zoom }) {
  const yaw = (yawDeg * Math.PI) / 180;
  const pitch = (pitchDeg * Math.PI) / 180;
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  // Turn about y after a lift about -x.
  const rotation = [
    [cy, -sy * sp, sy * cp],
    [0, cp, sp],
    [-sy, -cy * sp, cy * cp],
  ];
  const moved = Float32Array.from(label25);
  for (let row = 0; row < 3; row++) {
    for (let column = 0; column < 4; column++) {
      moved[row * 4 + column] = rotation[row].reduce(
        (sum, value, k) => sum + value * label25[k * 4 + column],
        0,
      );
    }
  }
  moved[16] *= zoom;
  moved[17] *= zoom;
  moved[20] *= zoom;
  return moved;
}
