// The canvas as a video file, made by the browser.

const TYPES = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];

/** Records a canvas. */
export class CanvasRecorder {
  constructor(canvas) {
    this.canvas = canvas;
    this.recorder = null;
  }

  get isRecording() {
    return this.recorder !== null;
  }

  start() {
    const type = TYPES.find((candidate) => MediaRecorder.isTypeSupported(candidate));
    if (!type) throw new Error("This browser cannot record a canvas.");
    this.parts = [];
    this.recorder = new MediaRecorder(this.canvas.captureStream(25), {
      mimeType: type, videoBitsPerSecond: 4e6,
    });
    this.recorder.ondataavailable = (event) => this.parts.push(event.data);
    this.recorder.start(200);
  }

  /** Ends the recording and returns the file. */
  stop() {
    const { recorder } = this;
    this.recorder = null;
    return new Promise((resolve) => {
      recorder.onstop = () => resolve(new Blob(this.parts, { type: recorder.mimeType }));
      recorder.stop();
      recorder.stream.getTracks().forEach((track) => track.stop());
    });
  }
}

/** Lets the browser save a file. */
export function saveFile(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
