// An avatar with an expression and a camera, drawn coarsely while it moves and fully when it is still.

import { blendPlanes } from "./planes.js";
import { componentWeights, mapToW, normalize } from "./mapping.js";
import { FieldRenderer } from "./renderer.js";
import { scoreRange } from "./range.js";
import { turnCamera } from "./camera.js";

const FULL_AFTER_MS = 180;
const MOVING_MS = 50; // what a picture may take while something moves
const BAND_MS = 40; // what a band of the full picture may take
const SIDES = [32, 48, 64, 96, 128, 192, 256, 384, 512];

/** Sorts what the page carries into the parts that the modules take. */
export function readAvatar({ tensors, metadata }) {
  const info = JSON.parse(metadata.avatar);
  const hidden = [];
  while (`hidden.${hidden.length}.weight` in tensors) {
    const index = hidden.length;
    hidden.push({ weight: tensors[`hidden.${index}.weight`], bias: tensors[`hidden.${index}.bias`] });
  }
  return {
    info,
    names: info.names,
    neutral: tensors.neutral.data,
    mean: tensors.mean.data,
    std: tensors.std.data,
    frontal: tensors.frontal_label25.data,
    demo: tensors.demo,
    map: {
      mean: tensors.code_offset,
      forward: tensors.code_forward,
      center: tensors.code_center,
      reach: tensors.code_reach,
    },
    network: {
      hidden,
      slope: info.slope,
      output: { weight: tensors["output.weight"], bias: tensors["output.bias"] },
      meanW: tensors.mean_w,
    },
    basis: {
      wMean: tensors.w_mean,
      wAxes: tensors.w_axes,
      regression: tensors.regression,
      mean: tensors.planes_mean,
      components: tensors.planes_components,
      scales: tensors.planes_scales,
    },
    range: { seen: tensors.seen, unit: info.range_unit, neighbors: info.range_neighbors },
    field: {
      layers: tensors.planes_mean.shape[0],
      side: tensors.planes_mean.shape[1],
      hiddenGroups: info.hidden_groups,
      decoder: tensors.decoder,
      occupancy: tensors.occupancy,
      emptyDensity: info.empty_density,
      render: info.render,
    },
  };
}

/** Computes the texels of a code, in place. */
export function makeTexels(texels, code, avatar) {
  const w = mapToW(normalize(code, avatar.map), avatar.network);
  blendPlanes(texels, avatar.basis, componentWeights(w, avatar.basis));
}

/** Scores a code: up to 1 the avatar has seen its like. */
export function scoreCode(code, avatar) {
  const unlimited = { ...avatar.map, reach: { data: avatar.map.reach.data.map(() => Infinity) } };
  return scoreRange(normalize(code, unlimited), avatar.range);
}

/**
 * The avatar on a canvas.
 *
 * Whoever embeds it may assign `getExpressionData`, a function that is asked in every frame and
 * returns `{arkitName: value}`, the contract of web avatars; names that it leaves out stay neutral.
 */
export class LiveAvatar {
  constructor(avatar, canvas, shaders) {
    this.avatar = avatar;
    this.names = avatar.names;
    this.code = Float32Array.from(avatar.neutral);
    this.camera = { yawDeg: 0, pitchDeg: 0, zoom: 1 };
    this.view = "color";
    this.getExpressionData = null;
    this.onFrame = [];
    this.updates = 0;
    this.coarseSide = 64;
    this.coarseMs = 0;
    this.renderer = new FieldRenderer(canvas, avatar.field, shaders);
    this.fullSide = canvas.width;
    const { layers, side } = avatar.field;
    this.texels = new Float32Array(layers * side * side * 4);
    this.codeChanged = this.viewChanged = true;
    this.changedAt = 0;
    this.band = { row: 0, rows: 16 };
  }

  /** Sets coefficients by ARKit name; those that are not named stay as they are. */
  setExpression(values) {
    this.setCode(this.code.map((old, index) => values[this.names[index]] ?? old));
  }

  /** Sets all coefficients, in the order of `names`. */
  setCode(code) {
    if (this.code.every((old, index) => old === code[index])) return;
    this.code = Float32Array.from(code);
    this.codeChanged = true;
  }

  /** The expression that is shown, `{arkitName: value}`. */
  get expression() {
    return Object.fromEntries(this.names.map((name, index) => [name, this.code[index]]));
  }

  /** Moves the camera: any of yawDeg, pitchDeg and zoom. */
  setCamera(change) {
    const limit = (value, most) => Math.min(Math.max(value, -most), most);
    this.camera = { ...this.camera, ...change };
    this.camera.pitchDeg = limit(this.camera.pitchDeg, 80);
    this.camera.zoom = Math.min(Math.max(this.camera.zoom, 0.4), 4);
    this.viewChanged = true;
  }

  /** Shows "color", "opacity" or "depth". */
  setView(view) {
    this.view = view;
    this.viewChanged = true;
  }

  /** How far the expression lies outside of what the avatar has seen; up to 1 is inside. */
  get rangeScore() {
    return scoreCode(this.code, this.avatar);
  }

  /** Renders at once and returns RGBA pixels, rows from the top; the camera may be 25 numbers. */
  renderPixels(side, { label25 = this.label25, view = this.view } = {}) {
    this.refreshPlanes();
    this.renderer.trace(Float32Array.from(label25), { side, view });
    this.viewChanged = true; // the buffer of the picture on the screen was used
    return this.renderer.readRays();
  }

  get label25() {
    return turnCamera(this.avatar.frontal, this.camera);
  }

  /** Whether the picture on the screen has all its rays. */
  get isComplete() {
    return !this.codeChanged && !this.viewChanged && this.band.row >= this.fullSide;
  }

  start() {
    const step = (now) => {
      this.step(now);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  step(now) {
    for (const listener of this.onFrame) listener(now);
    if (this.getExpressionData) {
      const values = this.getExpressionData() ?? {};
      this.setCode(this.names.map((name, index) => values[name] ?? this.avatar.neutral[index]));
    }
    if (this.codeChanged || this.viewChanged) {
      this.drawCoarse(now);
    } else if (now - this.changedAt > FULL_AFTER_MS && this.band.row < this.fullSide) {
      this.drawBand();
    }
  }

  refreshPlanes() {
    if (!this.codeChanged) return;
    makeTexels(this.texels, this.code, this.avatar);
    this.renderer.setPlanes(this.texels);
    this.codeChanged = false;
  }

  drawCoarse(now) {
    const begun = performance.now();
    this.refreshPlanes();
    this.renderer.trace(this.label25, { side: this.coarseSide, view: this.view });
    this.renderer.show();
    this.renderer.finish();
    this.coarseMs = performance.now() - begun;
    this.viewChanged = false;
    this.changedAt = now;
    this.band.row = 0;
    this.updates += 1;
    const place = SIDES.indexOf(this.coarseSide);
    const next = SIDES[place + 1] ?? Infinity;
    if (this.coarseMs > MOVING_MS * 1.5 && place > 0) this.coarseSide = SIDES[place - 1];
    else if (next <= this.fullSide && this.coarseMs * (next / this.coarseSide) ** 2 < MOVING_MS) {
      this.coarseSide = next;
    }
  }

  drawBand() {
    const begun = performance.now();
    const { band } = this;
    const end = Math.min(band.row + band.rows, this.fullSide);
    this.renderer.trace(this.label25, {
      side: this.fullSide, view: this.view, first: band.row, end,
    });
    this.renderer.finish();
    band.row = end;
    const ms = performance.now() - begun;
    band.rows = Math.max(2, Math.min(this.fullSide, Math.round((band.rows * BAND_MS) / ms)));
    if (band.row >= this.fullSide) this.renderer.show();
  }
}
