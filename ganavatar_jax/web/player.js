// Driving files: expression codes over time.

/**
 * Reads the JSON that `--task=drive` writes as codes.json: {names, fps or times, codes: {frame: code}}.
 * A list of {arkitName: value}, or {fps, frames: [{arkitName: value}]}, is read, too.
 *
 * @returns {{names: string[], timesS: number[], codes: (number[]|null)[]}} codes of frames without
 *   one are null.
 */
export function parseDriving(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new Error(`Expected a JSON file of expression codes; it cannot be read (${error.message}).`);
  }
  const listed = Array.isArray(content) ? content : content.frames;
  if (Array.isArray(listed)) return fromList(listed, content.fps);
  const { names, codes } = content;
  if (!Array.isArray(names) || typeof codes !== "object" || codes === null) {
    throw new Error('Expected "names" and "codes", as in the codes.json of --task=drive.');
  }
  const rows = Array.isArray(codes) ? codes : inOrder(codes);
  const wrong = rows.findIndex((row) => row !== null && !isCode(row, names.length));
  if (wrong >= 0) throw new Error(`Frame ${wrong}: expected ${names.length} finite numbers.`);
  return finish(names, rows, content.fps, content.times);
}

function fromList(frames, fps) {
  const names = [...new Set(frames.flatMap((frame) => Object.keys(frame ?? {})))];
  const rows = frames.map((frame) => frame && names.map((name) => Number(frame[name] ?? 0)));
  return finish(names, rows, fps, undefined);
}

function finish(names, rows, fps, times) {
  if (!rows.some((row) => row !== null)) throw new Error("The file holds no codes.");
  const rate = fps > 0 ? fps : 25;
  const timesS = times?.length === rows.length ? times : rows.map((_, index) => index / rate);
  if (timesS.some((time, index) => !(index === 0 || time > timesS[index - 1]))) {
    throw new Error("Expected times that rise from frame to frame.");
  }
  return { names, timesS: timesS.map((time) => time - timesS[0]), codes: rows };
}

function inOrder(codes) {
  const number = (name) => Number((name.match(/\d+/g) ?? ["0"]).at(-1));
  return Object.keys(codes).sort((a, b) => number(a) - number(b)).map((name) => codes[name]);
}

function isCode(row, width) {
  return Array.isArray(row) && row.length === width && row.every(Number.isFinite);
}

/** Puts a driver's codes into the avatar's order and fills gaps from their neighbours. */
export function selectCodes(driving, names) {
  const lacking = names.filter((name) => !driving.names.includes(name));
  if (lacking.length) throw new Error(`The file lacks ${lacking.join(", ")}.`);
  const columns = names.map((name) => driving.names.indexOf(name));
  const known = driving.codes.map((row, index) => (row ? index : -1)).filter((index) => index >= 0);
  return driving.codes.map((row, index) => {
    if (row) return columns.map((column) => row[column]);
    const after = known.find((other) => other > index) ?? known.at(-1);
    const before = known.findLast((other) => other < index) ?? known[0];
    const span = driving.timesS[after] - driving.timesS[before];
    const share = span > 0 ? (driving.timesS[index] - driving.timesS[before]) / span : 0;
    return columns.map((column) => {
      const [from, to] = [driving.codes[before][column], driving.codes[after][column]];
      return from + share * (to - from);
    });
  });
}

/**
 * Brings a driver's mean and spread to the avatar's own, as Avatar.encode does with statistics.
 *
 * @param {number[][]} codes
 * @param {{mean, std, largestGain: number}} own largestGain: most times a coefficient is amplified.
 */
export function restate(codes, own) {
  const count = codes.length;
  return codes[0].map((_, column) => {
    const values = codes.map((row) => row[column]);
    const mean = values.reduce((a, b) => a + b, 0) / count;
    const spread = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / count);
    const used = Math.max(spread, own.std[column] / own.largestGain);
    const scale = used > 1e-3 ? own.std[column] / used : 0;
    return values.map((value) => (value - mean) * scale + own.mean[column]);
  }).reduce((rows, column) => rows.map((row, frame) => [...row, column[frame]]), codes.map(() => []));
}

/** Codes that are played over time. */
export class Player {
  constructor(codes, timesS) {
    this.codes = codes;
    this.timesS = timesS;
    this.lengthS = timesS.length > 1 ? timesS.at(-1) + timesS[1] - timesS[0] : 1;
  }

  /** The code at a time, between two frames where it lies between; after the end it begins again. */
  at(timeS) {
    const time = timeS % this.lengthS;
    let after = this.timesS.findIndex((other) => other > time);
    if (after < 0) after = this.timesS.length;
    const before = Math.max(after - 1, 0);
    if (after >= this.codes.length) return this.codes.at(-1);
    const share = (time - this.timesS[before]) / (this.timesS[after] - this.timesS[before]);
    return this.codes[before].map((from, k) => from + share * (this.codes[after][k] - from));
  }
}
