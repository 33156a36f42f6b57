// What the user touches: sliders, the picture, dropped files.

const DEGREES_PER_WIDTH = 180;

/** Makes a slider for each coefficient; returns a function that moves them to a code. */
export function makeSliders(list, live, onInput) {
  const { names, std, neutral, info } = live.avatar;
  const rows = names.map((name, index) => {
    const row = document.createElement("label");
    row.className = "slider";
    const title = document.createElement("span");
    title.textContent = name;
    const input = document.createElement("input");
    input.type = "range";
    input.name = name;
    const reach = info.limit * std[index];
    input.min = info.weights.includes(name) ? Math.max(neutral[index] - reach, 0) : neutral[index] - reach;
    input.max = neutral[index] + reach;
    input.step = "any";
    input.value = neutral[index];
    const value = document.createElement("output");
    input.addEventListener("input", () => {
      live.setExpression({ [name]: Number(input.value) });
      value.textContent = Number(input.value).toFixed(2);
      onInput();
    });
    input.addEventListener("dblclick", () => {
      input.value = neutral[index];
      input.dispatchEvent(new Event("input"));
    });
    row.append(title, input, value);
    list.append(row);
    return { input, value };
  });
  return (code) =>
    rows.forEach(({ input, value }, index) => {
      input.value = code[index];
      value.textContent = code[index].toFixed(2);
    });
}

/** Turns the head by mouse and touch: one finger turns, two fingers or the wheel zoom. */
export function followPointers(canvas, live) {
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const degrees = DEGREES_PER_WIDTH / canvas.clientWidth;
    const apart = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const { yawDeg, pitchDeg, zoom } = live.camera;
    if (fingers.size === 2) {
      live.setCamera({ zoom: (zoom * spread()) / Math.max(apart, 1) });
    } else {
      live.setCamera({
        yawDeg: yawDeg - (event.clientX - before.x) * degrees,
        pitchDeg: pitchDeg + (event.clientY - before.y) * degrees,
      });
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("dblclick", () => live.setCamera({ yawDeg: 0, pitchDeg: 0, zoom: 1 }));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    live.setCamera({ zoom: live.camera.zoom * Math.exp(-event.deltaY / 800) });
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: { yawDeg: live.camera.yawDeg - 5 }, ArrowRight: { yawDeg: live.camera.yawDeg + 5 },
      ArrowUp: { pitchDeg: live.camera.pitchDeg + 5 }, ArrowDown: { pitchDeg: live.camera.pitchDeg - 5 },
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    live.setCamera(moves[event.key]);
  });
}

/** Takes files that are dropped on the page. */
export function takeDrops(onFile) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = event.dataTransfer.files[0];
    if (file) onFile(file);
  });
}
