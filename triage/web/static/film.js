// The preview: window, level, zoom and inversion of an 8-bit picture on a canvas.

import { bytes } from "./api.js";

const MOST_ZOOM = 6;

export class Film {
  constructor(section) {
    this.section = section;
    this.canvas = section.querySelector("canvas");
    this.words = section.querySelector(".glass p");
    this.grey = null;
    this.listeners();
  }

  async load() {
    this.defaults();
    try {
      const bitmap = await createImageBitmap(await bytes(this.section.dataset.source));
      const flat = new OffscreenCanvas(bitmap.width, bitmap.height);
      const context = flat.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      this.pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
      this.grey = new Uint8Array(bitmap.width * bitmap.height);
      for (let i = 0; i < this.grey.length; i += 1) this.grey[i] = this.pixels.data[4 * i];
      this.flat = flat;
      this.words.hidden = true;
      this.draw();
    } catch (error) {
      this.words.textContent = error.message;
      this.words.hidden = false;
    }
  }

  defaults() {
    Object.assign(this, { window: 255, level: 127.5, zoom: 1, x: 0, y: 0, inverted: false });
    this.knobs();
  }

  knob(name) {
    return this.section.querySelector(`[data-knob="${name}"]`);
  }

  knobs() {
    this.knob("window").value = this.window;
    this.knob("level").value = this.level;
    this.knob("zoom").value = this.zoom * 100;
    this.knob("invert").setAttribute("aria-pressed", String(this.inverted));
  }

  table() {
    const low = this.level - this.window / 2;
    return Uint8ClampedArray.from({ length: 256 }, (_, value) => {
      const shade = ((value - low) / this.window) * 255;
      return this.inverted ? 255 - shade : shade;
    });
  }

  draw() {
    if (!this.grey) return;
    const table = this.table();
    const { data } = this.pixels;
    for (let i = 0; i < this.grey.length; i += 1) {
      const shade = table[this.grey[i]];
      data[4 * i] = shade;
      data[4 * i + 1] = shade;
      data[4 * i + 2] = shade;
    }
    this.flat.getContext("2d").putImageData(this.pixels, 0, 0);
    this.place();
  }

  place() {
    if (!this.grey) return;
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    const scale = Math.min(width / this.flat.width, height / this.flat.height) * this.zoom;
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    const left = (width - this.flat.width * scale) / 2 + this.x * ratio;
    const top = (height - this.flat.height * scale) / 2 + this.y * ratio;
    context.drawImage(this.flat, left, top, this.flat.width * scale, this.flat.height * scale);
  }

  zoomTo(zoom) {
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
    if (this.zoom === 1) Object.assign(this, { x: 0, y: 0 });
    this.knobs();
    this.place();
  }

  invert() {
    this.inverted = !this.inverted;
    this.knobs();
    this.draw();
  }

  reset() {
    this.defaults();
    this.draw();
  }

  listeners() {
    this.section.addEventListener("input", (event) => {
      const name = event.target.dataset.knob;
      if (name === "zoom") this.zoomTo(event.target.value / 100);
      if (name === "window" || name === "level") {
        this[name] = Number(event.target.value);
        this.draw();
      }
    });
    this.section.addEventListener("click", (event) => {
      const name = event.target.closest("button")?.dataset.knob;
      if (name === "invert") this.invert();
      if (name === "reset") this.reset();
    });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomTo(this.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
    new ResizeObserver(() => this.place()).observe(this.canvas);
  }

  drag(start) {
    this.canvas.setPointerCapture(start.pointerId);
    const moving = start.shiftKey || start.button === 1;
    const from = { window: this.window, level: this.level, x: this.x, y: this.y };
    const move = (event) => {
      const right = event.clientX - start.clientX;
      const down = event.clientY - start.clientY;
      if (moving) {
        Object.assign(this, { x: from.x + right, y: from.y + down });
        this.place();
        return;
      }
      this.window = Math.min(255, Math.max(4, from.window + right));
      this.level = Math.min(255, Math.max(0, from.level + down / 2));
      this.knobs();
      this.draw();
    };
    const end = () => this.canvas.removeEventListener("pointermove", move);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", end, { once: true });
    this.canvas.addEventListener("pointercancel", end, { once: true });
  }
}
