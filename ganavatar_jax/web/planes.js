// Feature planes as the texels of an array texture: four channels a texel, a border of zeros.

/**
 * Adds weighted components to the mean.
 *
 * @param {Float32Array} texels [layers, side, side, 4], overwritten.
 * @param {{mean, components, scales}} basis mean as texels; components int8 [k, ...texels];
 *   scales [k, layers, 4], what one step of a component is worth in each channel.
 * @param {Float32Array} weights one a component.
 */
export function blendPlanes(texels, basis, weights) {
  const [layers, side] = basis.mean.shape;
  const layerSize = side * side * 4;
  const total = layers * layerSize;
  const parts = basis.components.data;
  const scales = basis.scales.data;
  texels.set(basis.mean.data);
  for (let k = 0; k < weights.length; k++) {
    for (let layer = 0; layer < layers; layer++) {
      const lane = (k * layers + layer) * 4;
      const a = weights[k] * scales[lane];
      const b = weights[k] * scales[lane + 1];
      const c = weights[k] * scales[lane + 2];
      const d = weights[k] * scales[lane + 3];
      const end = (layer + 1) * layerSize;
      for (let i = layer * layerSize, j = k * total + i; i < end; i += 4, j += 4) {
        texels[i] += a * parts[j];
        texels[i + 1] += b * parts[j + 1];
        texels[i + 2] += c * parts[j + 2];
        texels[i + 3] += d * parts[j + 3];
      }
    }
  }
}
