// The webcam, read by a script that the user names: nothing of that kind is carried by the page, and
// nothing is asked for until the user does.

/**
 * Loads the user's script, a classic one, that defines
 * `readExpression(video, timeMs) -> {arkitName: value} | null`, or a promise of that.
 *
 * @param {string} address an address that the page was exported for, or one of a local file.
 */
export async function loadReader(address) {
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${address}: the script cannot be loaded.`));
    document.head.append(script);
  });
  if (typeof globalThis.readExpression !== "function") {
    throw new Error("The script has to define readExpression(video, timeMs).");
  }
  return globalThis.readExpression;
}

/** A webcam whose expression is read again and again. */
export class Webcam {
  constructor(read) {
    this.read = read;
    this.latest = null;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
  }

  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
    this.video.srcObject = this.stream;
    await this.video.play();
    this.watch();
  }

  async watch() {
    while (this.stream) {
      if (this.video.readyState >= 2) {
        const found = await this.read(this.video, performance.now());
        if (found) this.latest = found;
      }
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
  }
}
