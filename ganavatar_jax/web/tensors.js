// What the page carries: tensors in the safetensors layout, compressed and written as base64.

const READERS = {
  F32: (bytes) => new Float32Array(bytes),
  F16: (bytes) => widen(new Uint16Array(bytes)),
  I8: (bytes) => new Int8Array(bytes),
  U8: (bytes) => new Uint8Array(bytes),
};

/** Unpacks base64 of gzip of safetensors into {name: {shape, data}} and the file's metadata. */
export async function unpack(text) {
  const packed = Uint8Array.from(atob(text.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return readTensors(await new Response(stream).arrayBuffer());
}

/** Reads a safetensors file: a header in JSON, then the tensors one after the other. */
export function readTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const metadata = header.__metadata__ ?? {};
  delete header.__metadata__;
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    const [begin, end] = entry.data_offsets;
    // A copy: typed arrays want aligned bytes.
    const bytes = buffer.slice(8 + length + begin, 8 + length + end);
    tensors[name] = { shape: entry.shape, data: READERS[entry.dtype](bytes) };
  }
  return { tensors, metadata };
}

/** Turns half-precision numbers into floats. */
export function widen(halves) {
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i];
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size =
      exponent === 0
        ? fraction * 2 ** -24
        : exponent === 31
          ? fraction ? NaN : Infinity
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    floats[i] = half & 0x8000 ? -size : size;
  }
  return floats;
}
