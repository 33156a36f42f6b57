// Starts the page.

import { CanvasRecorder, saveFile } from "./recorder.js";
import { LiveAvatar, readAvatar } from "./avatar.js";
import { Player, parseDriving, restate, selectCodes } from "./player.js";
import { Webcam, loadReader } from "./webcam.js";
import { followPointers, makeSliders, takeDrops } from "./controls.js";
import { unpack } from "./tensors.js";

const text = (id) => document.getElementById(id).textContent;
const element = (id) => document.getElementById(id);

async function startPage() {
  const avatar = readAvatar(await unpack(text("avatar-data")));
  const canvas = element("picture");
  canvas.width = canvas.height = avatar.info.full_px;
  const shaders = {
    vertex: text("field-vert").trim(),
    fragment: text("field-frag").trim(),
    show: text("show-frag").trim(),
  };
  const live = new LiveAvatar(avatar, canvas, shaders);
  const page = new Page(live, canvas);
  globalThis.ganAvatar = Object.assign(live, { page, ready: true });
  element("name").textContent = avatar.info.title;
  element("about").textContent = avatar.info.about;
  live.start();
  document.body.classList.add("ready");
}

/** The page's state beside the avatar: what plays, what records, what the camera reads. */
class Page {
  constructor(live, canvas) {
    this.live = live;
    this.recorder = new CanvasRecorder(canvas);
    this.webcam = null;
    this.playing = null;
    const { demo, info } = live.avatar;
    const width = demo.shape[1];
    const rows = Array.from({ length: demo.shape[0] }, (_, frame) =>
      Array.from(demo.data.subarray(frame * width, (frame + 1) * width)),
    );
    this.driven = { rows, timesS: rows.map((_, frame) => frame / info.demo_fps), raw: null };
    this.moveSliders = makeSliders(element("sliders"), live, () => this.pause());
    followPointers(canvas, live);
    takeDrops((file) => this.attempt(() => this.drop(file)));
    this.connect();
    live.onFrame.push((now) => this.tick(now));
  }

  connect() {
    const click = (id, action) =>
      element(id).addEventListener("click", () => this.attempt(action));
    click("play", () => (this.playing ? this.pause() : this.play()));
    click("record", () => this.toggleRecording());
    click("reset", () => this.reset());
    click("webcam", () => this.toggleWebcam());
    element("view").addEventListener("change", (event) => this.live.setView(event.target.value));
    element("adapt").addEventListener("change", () => this.adapt());
    element("file").addEventListener("change", (event) =>
      this.attempt(() => this.drop(event.target.files[0])),
    );
    element("script").addEventListener("change", (event) =>
      this.attempt(() => this.openWebcam(URL.createObjectURL(event.target.files[0]))),
    );
  }

  /** Runs what the user asked for, and says in one line what was wrong. */
  async attempt(action) {
    this.say("");
    try {
      await action();
    } catch (error) {
      this.say(error.message);
    }
  }

  say(message) {
    element("message").textContent = message;
  }

  play() {
    this.playing = { player: new Player(this.driven.rows, this.driven.timesS), begun: performance.now() };
    element("play").textContent = "Pause";
  }

  pause() {
    this.playing = null;
    element("play").textContent = "Play";
  }

  reset() {
    this.pause();
    this.live.setCode(this.live.avatar.neutral);
    this.live.setCamera({ yawDeg: 0, pitchDeg: 0, zoom: 1 });
    this.moveSliders(this.live.code);
  }

  tick(now) {
    if (this.webcam?.latest) {
      this.live.setExpression(this.webcam.latest);
    } else if (this.playing) {
      this.live.setCode(this.playing.player.at((now - this.playing.begun) / 1000));
    }
    if (this.playing || this.webcam || this.live.getExpressionData) this.moveSliders(this.live.code);
    if (this.live.codeChanged) this.showRange();
  }

  showRange() {
    const score = this.live.rangeScore;
    element("range").value = Math.min(score, 2);
    element("range-value").textContent = score.toFixed(1);
    document.body.classList.toggle("outside", score > 1);
  }

  async drop(file) {
    const driving = parseDriving(await file.text());
    this.driven.raw = selectCodes(driving, this.live.names);
    this.driven.timesS = driving.timesS;
    this.adapt();
    this.play();
    this.say(`${file.name}: ${driving.codes.length} frames`);
  }

  adapt() {
    const { raw } = this.driven;
    if (!raw) return;
    const { mean, std, info } = this.live.avatar;
    const own = { mean, std, largestGain: info.largest_gain };
    this.driven.rows = element("adapt").checked ? restate(raw, own) : raw;
    if (this.playing) this.play();
  }

  async toggleRecording() {
    if (!this.recorder.isRecording) {
      this.recorder.start();
      element("record").textContent = "Stop recording";
      return;
    }
    element("record").textContent = "Record";
    const film = await this.recorder.stop();
    this.recorded = film;
    saveFile(film, film.type.includes("mp4") ? "avatar.mp4" : "avatar.webm");
  }

  async toggleWebcam() {
    if (this.webcam) {
      this.webcam.stop();
      this.webcam = null;
      element("webcam").textContent = "Webcam";
      return;
    }
    const address = this.live.avatar.info.face_script;
    if (address) await this.openWebcam(address);
    else element("script").click();
  }

  async openWebcam(address) {
    const webcam = new Webcam(await loadReader(address));
    await webcam.start();
    this.pause();
    this.webcam = webcam;
    element("webcam").textContent = "Stop the webcam";
  }
}

startPage().catch((error) => {
  element("message").textContent = error.message;
  document.body.classList.add("failed");
});
