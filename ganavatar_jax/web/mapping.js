// From an expression code to the weights of the planes' components; the same sums as Avatar.encode.

/** Normalises a code and cuts off what lies too many spreads from the codes the avatar knows. */
export function normalize(code, map) {
  const { mean, forward, center, reach } = map;
  const width = mean.data.length;
  const result = new Float32Array(center.data.length);
  for (let k = 0; k < result.length; k++) {
    let sum = 0;
    for (let e = 0; e < width; e++) {
      sum += (code[e] - mean.data[e]) * forward.data[e * result.length + k];
    }
    const middle = center.data[k];
    result[k] = Math.min(Math.max(sum, middle - reach.data[k]), middle + reach.data[k]);
  }
  return result;
}

/** Maps a normalised code to w: hidden layers, an output layer, and the mean that it is added to. */
export function mapToW(normalized, network) {
  let x = normalized;
  for (const layer of network.hidden) {
    x = affine(x, layer.weight, layer.bias.data);
    for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] *= network.slope;
  }
  const w = affine(x, network.output.weight, network.output.bias.data);
  for (let i = 0; i < w.length; i++) w[i] += network.meanW.data[i];
  return w;
}

/** Computes the weights of the planes' components: a quadratic function of a few directions of w. */
export function componentWeights(w, basis) {
  const inputs = basis.wAxes.shape[1];
  const x = new Float32Array(inputs);
  for (let d = 0; d < w.length; d++) {
    const away = w[d] - basis.wMean.data[d];
    for (let i = 0; i < inputs; i++) x[i] += away * basis.wAxes.data[d * inputs + i];
  }
  const features = [1, ...x];
  for (let i = 0; i < inputs; i++) for (let j = i; j < inputs; j++) features.push(x[i] * x[j]);
  return affine(features, basis.regression, null);
}

function affine(x, weight, bias) {
  const [rows, columns] = weight.shape;
  const y = bias ? Float32Array.from(bias) : new Float32Array(columns);
  for (let r = 0; r < rows; r++) {
    const value = x[r];
    for (let c = 0; c < columns; c++) y[c] += value * weight.data[r * columns + c];
  }
  return y;
}
