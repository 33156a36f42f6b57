// Draws the field with WebGL2. Rays go into a buffer of their own, so that a coarse picture stays on
// the screen until the full one, drawn band by band, is ready.

const VIEWS = { color: 0, opacity: 1, depth: 2 };

/** Tells the shader the sizes of a field as constants. */
export function shaderConstants(field) {
  const render = field.render;
  const number = (value) => (Number.isInteger(value) ? `${value}.0` : `${value}`);
  const lines = {
    CHANNEL_GROUPS: field.layers / 3,
    HIDDEN_GROUPS: field.hiddenGroups,
    PLANE_SIDE: number(field.side - 2),
    COARSE: render.depth_resolution,
    FINE: render.depth_resolution_importance,
    BOX_WARP: number(render.box_warp),
    WHITE_BACK: render.white_back ? "1.0" : "0.0",
    DISPARITY: render.disparity ? 1 : 0,
    AUTO_BOUNDS: render.ray_start === "auto" ? 1 : 0,
    THIRD_PLANE: render.plane_axes === "fixed" ? "zy" : "zx",
    EMPTY_DENSITY: number(field.emptyDensity),
  };
  return Object.entries(lines).map(([name, value]) => `#define ${name} ${value}`).join("\n");
}

/** Puts the constants into the shader. */
export function completeShader(source, field) {
  return source.replace("//CONSTANTS", shaderConstants(field));
}

/** A canvas with a field. */
export class FieldRenderer {
  constructor(canvas, field, shaders) {
    this.canvas = canvas;
    this.field = field;
    const options = { alpha: false, antialias: false, preserveDrawingBuffer: true };
    const gl = canvas.getContext("webgl2", options);
    if (!gl) throw new Error("This browser has no WebGL2. Use a current one, with graphics enabled.");
    this.gl = gl;
    this.program = link(gl, shaders.vertex, completeShader(shaders.fragment, field));
    this.showing = link(gl, shaders.vertex, shaders.show);
    gl.useProgram(this.program);
    this.places = new Map();
    this.makePlanes();
    this.makeOccupancy();
    this.makeDecoder();
    this.target = gl.createTexture();
    this.buffer = gl.createFramebuffer();
    this.targetSide = 0;
    gl.uniform1i(this.place("planes"), 0);
    gl.uniform1i(this.place("occupancy"), 1);
    gl.bindVertexArray(gl.createVertexArray());
    gl.useProgram(this.showing);
    gl.uniform1i(gl.getUniformLocation(this.showing, "rays"), 2);
    gl.uniform1f(gl.getUniformLocation(this.showing, "canvasSide"), canvas.width);
  }

  place(name) {
    if (!this.places.has(name)) {
      this.places.set(name, this.gl.getUniformLocation(this.program, name));
    }
    return this.places.get(name);
  }

  makePlanes() {
    const { gl, field } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, gl.createTexture());
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA16F, field.side, field.side, field.layers);
    for (const [key, value] of [
      [gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
    ]) gl.texParameteri(gl.TEXTURE_2D_ARRAY, key, value);
  }

  makeOccupancy() {
    const { gl, field } = this;
    const cells = field.occupancy.shape[0];
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_3D, gl.createTexture());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texStorage3D(gl.TEXTURE_3D, 1, gl.R8, cells, cells, cells);
    gl.texSubImage3D(
      gl.TEXTURE_3D, 0, 0, 0, 0, cells, cells, cells, gl.RED, gl.UNSIGNED_BYTE, field.occupancy.data,
    );
    for (const [key, value] of [
      [gl.TEXTURE_MIN_FILTER, gl.NEAREST], [gl.TEXTURE_MAG_FILTER, gl.NEAREST],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
      [gl.TEXTURE_WRAP_R, gl.CLAMP_TO_EDGE],
    ]) gl.texParameteri(gl.TEXTURE_3D, key, value);
  }

  makeDecoder() {
    const { gl, field } = this;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.UNIFORM_BUFFER, buffer);
    gl.bufferData(gl.UNIFORM_BUFFER, field.decoder.data, gl.STATIC_DRAW);
    gl.uniformBlockBinding(this.program, gl.getUniformBlockIndex(this.program, "Decoder"), 0);
    gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, buffer);
  }

  /** Takes the texels of an expression, [layers, side, side, 4]. */
  setPlanes(texels) {
    const { gl, field } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.texSubImage3D(
      gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, field.side, field.side, field.layers,
      gl.RGBA, gl.FLOAT, texels,
    );
  }

  /** Makes the buffer of rays one of `side` x `side`. */
  resize(side) {
    const { gl } = this;
    if (side === this.targetSide) return;
    gl.activeTexture(gl.TEXTURE2);
    gl.deleteTexture(this.target);
    this.target = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.target);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, side, side);
    for (const [key, value] of [
      [gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
    ]) gl.texParameteri(gl.TEXTURE_2D, key, value);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.framebufferTexture2D(
      gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.target, 0,
    );
    this.targetSide = side;
  }

  /**
   * Draws rows of rays, `first` to before `end` from the bottom, without showing them.
   *
   * @param {Float32Array} label25 the camera.
   * @param {{side: number, view?: string, first?: number, end?: number}} what
   */
  trace(label25, { side, view = "color", first = 0, end = side }) {
    const { gl, field } = this;
    this.resize(side);
    gl.useProgram(this.program);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.viewport(0, 0, side, side);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(0, first, side, end - first);
    const pose = Float32Array.from({ length: 16 }, (_, i) => label25[(i % 4) * 4 + (i >> 2)]);
    gl.uniformMatrix4fv(this.place("cam2world"), false, pose);
    gl.uniform4f(this.place("lens"), label25[16], label25[20], label25[18], label25[21]);
    gl.uniform1f(this.place("skew"), label25[17]);
    gl.uniform1f(this.place("side"), side);
    const { ray_start: near, ray_end: far } = field.render;
    gl.uniform2f(this.place("bounds"), near === "auto" ? 0 : near, far === "auto" ? 0 : far);
    gl.uniform1i(this.place("view"), VIEWS[view]);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.disable(gl.SCISSOR_TEST);
  }

  /** Waits until what was drawn is there. */
  finish() {
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  /** Returns the rays' pixels, rows from the top, RGBA. */
  readRays() {
    const { gl, targetSide: side } = this;
    const upward = new Uint8Array(side * side * 4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.readPixels(0, 0, side, side, gl.RGBA, gl.UNSIGNED_BYTE, upward);
    const pixels = new Uint8Array(upward.length);
    for (let row = 0; row < side; row++) {
      const from = (side - 1 - row) * side * 4;
      pixels.set(upward.subarray(from, from + side * 4), row * side * 4);
    }
    return pixels;
  }

  /** Shows the rays on the canvas. */
  show() {
    const { gl, canvas } = this;
    gl.useProgram(this.showing);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

function link(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) {
      throw new Error(`The shader does not compile here: ${gl.getShaderInfoLog(shader)}`);
    }
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    throw new Error(`The shader does not link here: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}
