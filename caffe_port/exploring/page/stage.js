// The image with its maps: one pane, or two that a handle wipes or that stand side by side.

const STOPS = [[13, 8, 67], [84, 39, 143], [158, 42, 122], [221, 81, 84], [250, 150, 60], [244, 240, 120]];

// Red, green, blue of a value between 0 and 1.
export function heatColour(value) {
  const at = Math.min(Math.max(value, 0), 1) * (STOPS.length - 1);
  const i = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[i].map((low, k) => low + (at - i) * (STOPS[i + 1][k] - low));
}

const TABLE = Array.from({length: 256}, (_, i) => heatColour(i / 255));
// blue below 0, white at it, red above
const SIGNED = Array.from({length: 256}, (_, i) => {
  const [side, share] = [i > 127.5 ? [196, 48, 43] : [40, 92, 170], Math.abs(i - 127.5) / 127.5];
  return side.map((value) => 250 + share * (value - 250));
});

// signed: colours that are centred on 0
export function drawValues(canvas, values, height, width, [low, high], signed = false) {
  const table = signed ? SIGNED : TABLE;
  if (signed) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  const scale = high > low ? 255 / (high - low) : 0;
  const base = signed && !scale ? 127.5 : 0;
  for (let i = 0; i < values.length; i++) {
    const colour = table[Math.min(255, Math.max(0, Math.round(base + (values[i] - low) * scale)))] || table[0];
    data.data.set([colour[0], colour[1], colour[2], 255], 4 * i);
  }
  context.putImageData(data, 0, 0);
}

export function drawLabels(canvas, labels, height, width, palette) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  for (let i = 0; i < labels.length; i++) {
    const [red, green, blue] = palette[labels[i]];
    data.data.set([red, green, blue, red || green || blue ? 255 : 0], 4 * i);
  }
  context.putImageData(data, 0, 0);
}

export function drawPhoto(canvas, image, height, width) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  for (let i = 0, j = 0; i < image.length; i += 3, j += 4) {
    data.data[j] = image[i];
    data.data[j + 1] = image[i + 1];
    data.data[j + 2] = image[i + 2];
    data.data[j + 3] = 255;
  }
  context.putImageData(data, 0, 0);
}

class Pane {
  constructor(name) {
    this.element = document.createElement("div");
    this.element.className = `pane ${name}`;
    for (const layer of ["photo", "map", "extra", "marks"]) {
      this[layer] = document.createElement("canvas");
      this[layer].className = layer;
      this.element.append(this[layer]);
    }
    this.map.setAttribute("role", "img");
    this.caption = document.createElement("span");
    this.caption.className = "caption";
    this.element.append(this.caption);
  }

  // map: {name, labels} or {name, values, range}, or null for the photo alone
  draw(map, height, width, palette) {
    this.caption.textContent = map ? map.name : "photo";
    this.map.setAttribute("aria-label", map ? map.name : "");
    this.map.hidden = !map;
    if (!map) return;
    if (map.labels) drawLabels(this.map, map.labels, height, width, palette);
    else drawValues(this.map, map.values, height, width, map.range);
  }
}

export class Stage {
  // chosen(y, x, y1, x1) is called with a pixel, or the corners of a rectangle
  constructor(element, {hovered, chosen}) {
    this.element = element;
    this.hovered = hovered;
    this.chosen = chosen;
    this.picking = "none";
    this.cross = null;
    this.marks = [];
    this.frame = document.createElement("div");
    this.frame.className = "frame";
    this.left = new Pane("left");
    this.right = new Pane("right");
    this.wipe = document.createElement("input");
    Object.assign(this.wipe, {type: "range", min: 0, max: 1000, value: 500, className: "wipe"});
    this.wipe.setAttribute("aria-label", "Wipe between both maps");
    this.frame.append(this.left.element, this.right.element, this.wipe);
    element.append(this.frame);
    this.wipe.addEventListener("input", () => this.setWipe());
    this.setMode("wipe");
    this.setWipe();
    this.listen();
    new ResizeObserver(() => this.drawMarks()).observe(this.frame);
  }

  setPhoto(image, height, width) {
    Object.assign(this, {height, width});
    for (const pane of [this.left, this.right]) drawPhoto(pane.photo, image, height, width);
    this.frame.style.setProperty("--ratio", `${width} / ${height}`);
    this.frame.style.setProperty("--aspect", width / height);
    this.cross = null;
    this.setExtra(null);
    this.setMarks([]);
  }

  setMaps(left, right, palette) {
    this.compares = left !== null;
    this.frame.classList.toggle("two", this.compares);
    this.wipe.hidden = !this.compares || this.mode !== "wipe";
    this.right.draw(right, this.height, this.width, palette);
    if (this.compares) this.left.draw(left.photo ? null : left, this.height, this.width, palette);
    this.drawMarks();
  }

  setMode(mode) {
    this.mode = mode;
    this.frame.classList.toggle("side-by-side", mode === "side");
    this.wipe.hidden = !this.compares || mode !== "wipe";
  }

  setWipe() {
    this.frame.style.setProperty("--wipe", `${this.wipe.value / 10}%`);
  }

  setOpacity(share) {
    this.frame.style.setProperty("--opacity", share);
  }

  setZoom(factor) {
    this.frame.style.setProperty("--zoom", factor);
    this.element.classList.toggle("zoomed", factor > 1);
  }

  // pixels: an RGBA array of the image's size, drawn over the maps, or null
  setExtra(pixels) {
    for (const pane of [this.left, this.right]) {
      pane.extra.hidden = !pixels;
      if (!pixels) continue;
      pane.extra.width = this.width;
      pane.extra.height = this.height;
      pane.extra.getContext("2d").putImageData(new ImageData(pixels, this.width, this.height), 0, 0);
    }
  }

  // marks: [{kind: "points", at: [y, x, ...], colour}, {kind: "box", box: [y, x, y1, x1]}]
  setMarks(marks) {
    this.marks = marks;
    this.drawMarks();
  }

  drawMarks() {
    if (!this.width) return;
    for (const pane of [this.left, this.right]) {
      const box = pane.element.getBoundingClientRect();
      if (!box.width) continue;
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const canvas = pane.marks;
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      const scale = box.width / this.width;
      for (const mark of this.marks) drawMark(context, mark, scale);
      if (this.cross) drawCross(context, this.cross, scale);
    }
  }

  // the pixel under a pointer, or null beside the image
  place(event) {
    for (const pane of [this.right, this.left]) {
      const box = pane.element.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * this.width);
      const y = Math.floor(((event.clientY - box.top) / box.height) * this.height);
      if (box.width && x >= 0 && y >= 0 && x < this.width && y < this.height) return [y, x];
    }
    return null;
  }

  listen() {
    let start = null;
    this.frame.addEventListener("pointermove", (event) => {
      const at = this.place(event);
      if (!at) return;
      this.hovered(...at);
      if (start) this.setRubber([...start, ...at]);
    });
    this.frame.addEventListener("pointerleave", () => this.cross || this.hovered(null));
    this.frame.addEventListener("pointerdown", (event) => {
      if (event.target === this.wipe || event.button) return;
      const at = this.place(event);
      if (!at || this.picking === "none") return;
      start = at;
      if (this.picking === "rectangle") this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener("pointerup", (event) => {
      if (!start) return;
      const at = this.place(event) || start;
      const first = start;
      start = null;
      this.setRubber(null);
      this.choose(...(this.picking === "rectangle" ? [...first, ...at] : at));
    });
    this.frame.addEventListener("pointercancel", () => {
      start = null;
      this.setRubber(null);
    });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("blur", () => {
      this.cross = null;
      this.corner = null;
      this.drawMarks();
    });
  }

  choose(y, x, y1, x1) {
    if (this.picking !== "none") this.chosen(y, x, y1, x1);
  }

  setRubber(box) {
    this.marks = this.marks.filter((mark) => !mark.rubber);
    if (box) this.marks.push({kind: "box", box, rubber: true});
    this.drawMarks();
  }

  key(event) {
    if (event.target !== this.element || !this.width) return;
    const steps = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
    if (event.key in steps) {
      const [y, x] = this.cross || [this.height >> 1, this.width >> 1];
      const size = this.cross ? (event.shiftKey ? 10 : 1) : 0;
      const [dy, dx] = steps[event.key];
      this.cross = [
        Math.min(Math.max(y + size * dy, 0), this.height - 1),
        Math.min(Math.max(x + size * dx, 0), this.width - 1),
      ];
      if (this.corner) this.setRubber([...this.corner, ...this.cross]);
      this.hovered(...this.cross);
      this.drawMarks();
    } else if (event.key === "Enter" && this.cross) {
      if (this.picking !== "rectangle") this.choose(...this.cross);
      else if (this.corner) {
        const first = this.corner;
        this.corner = null;
        this.setRubber(null);
        this.choose(...first, ...this.cross);
      } else this.corner = this.cross;
    } else if (event.key === "Escape") {
      this.cross = this.corner = null;
      this.setRubber(null);
    } else return;
    event.preventDefault();
  }
}

function drawMark(context, mark, scale) {
  if (mark.kind === "box") {
    const [y, x, y1, x1] = mark.box;
    const corner = [Math.min(x, x1) * scale, Math.min(y, y1) * scale];
    const size = [(Math.abs(x1 - x) + 1) * scale, (Math.abs(y1 - y) + 1) * scale];
    for (const [colour, width, dash] of [["#0009", 3, []], [mark.colour || "#fff", 1.5, mark.dash || []]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.setLineDash(dash);
      context.strokeRect(...corner, ...size);
    }
    context.setLineDash([]);
    return;
  }
  const radius = Math.min(4, Math.max(2.2, scale / 2));
  context.fillStyle = mark.colour;
  context.strokeStyle = "#141414";
  context.lineWidth = 1;
  for (let i = 0; i < mark.at.length; i += 2) {
    context.beginPath();
    context.arc((mark.at[i + 1] + 0.5) * scale, (mark.at[i] + 0.5) * scale, radius, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
}

function drawCross(context, [y, x], scale) {
  const [cx, cy] = [(x + 0.5) * scale, (y + 0.5) * scale];
  for (const [colour, width] of [["#000c", 4], ["#fff", 1.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(cx + 4 * dx, cy + 4 * dy);
      context.lineTo(cx + 13 * dx, cy + 13 * dy);
    }
    context.stroke();
  }
}
