// The layers: channels of every blob, filters of the first convolution, parity with a recording.

import * as api from "./api.js";
import {$, element, number} from "./app.js";
import {drawValues} from "./stage.js";

const SHOWN = ["blobs", "filters", "parity"];
const shape = (sizes) => sizes.join(" × ");
const range = ([low, high]) => `${number(low)} to ${number(high)}`;

export class LayersView {
  constructor(app) {
    this.app = app;
    this.see = "blobs";
    this.blob = null; // {name, kind?}: with a kind the difference from the recording
    for (const name of SHOWN) $(`see-${name}`).addEventListener("click", () => this.choose(name));
    $("see-parity").disabled = !app.subject.recording;
    if (!app.subject.recording) $("see-parity").title = "Start with --recording FILE";
    $("normal").addEventListener("change", () => this.drawTiles());
    $("earlier").addEventListener("click", () => this.turn(-1));
    $("later").addEventListener("click", () => this.turn(1));
    $("blobs").addEventListener("keydown", (event) => this.key(event));
    $("zoomed-close").addEventListener("click", () => $("zoomed").close());
    $("zoomed-canvas").addEventListener("pointermove", (event) => this.zoomedValue(event));
  }

  photoChanged() {
    this.blobs = null;
    if (this.blob && !this.blob.kind) this.tiles = null;
  }

  choose(name) {
    this.see = name;
    for (const other of SHOWN) $(`see-${other}`).setAttribute("aria-pressed", other === name);
    this.show();
  }

  async show() {
    $("layers-blobs").hidden = this.see === "filters";
    document.querySelector("#layers-blobs .list").hidden = this.see !== "blobs";
    $("layers-filters").hidden = this.see !== "filters";
    $("layers-parity").hidden = this.see !== "parity";
    $("layers-blobs").classList.toggle("alone", this.see === "parity");
    if (this.see === "parity" && !(this.blob && this.blob.kind)) $("layers-blobs").hidden = true;
    try {
      await this[`show_${this.see}`]();
    } catch (error) {
      this.app.failed(error);
    }
  }

  async show_blobs() {
    if (!this.app.photo) {
      $("blobs").replaceChildren(element("p", {className: "soft"}, "Open an image in the first view: the blobs are those of its forward pass."));
      return;
    }
    if (!this.blobs) {
      const photo = this.app.photo;
      $("blobs").replaceChildren(element("p", {className: "soft"}, "The network runs …"));
      const {head} = await api.ofImage("blobs", {});
      if (photo !== this.app.photo) return;
      this.blobs = head.blobs;
      $("blobs").replaceChildren(...this.blobs.map((blob, i) => this.line(blob, i)));
    }
    const known = this.blobs.find((blob) => this.blob && blob.name === this.blob.name && !this.blob.kind);
    const first = this.blobs.find((blob) => blob.channels > 3) || this.blobs[0];
    await this.open({name: (known || first).name});
  }

  line(blob, index) {
    const types = [...new Set(blob.layers.map(([, type]) => type))].filter((type) => type !== "Split").join(", ") || "input";
    const made = element("div", {className: "blob", role: "option", id: `blob-${index}`},
      element("b", {}, blob.name), element("span", {className: "type"}, types),
      element("span", {className: "soft"}, shape(blob.shape)), element("span", {className: "soft"}, range(blob.range)));
    made.addEventListener("click", () => this.open({name: blob.name}));
    return made;
  }

  key(event) {
    if (!this.blobs) return;
    const at = this.blobs.findIndex((blob) => blob.name === this.blob?.name);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.blobs.length - 1}[event.key];
    if (to === undefined || !this.blobs[to]) return;
    event.preventDefault();
    this.open({name: this.blobs[to].name});
    $(`blob-${to}`).scrollIntoView({block: "nearest"});
  }

  async open(blob, first = 0) {
    this.blob = blob;
    (this.blobs || []).forEach((one, i) => {
      const selected = one.name === blob.name;
      $(`blob-${i}`)?.setAttribute("aria-selected", selected);
      if (selected) $("blobs").setAttribute("aria-activedescendant", `blob-${i}`);
    });
    try {
      const asked = {blob: blob.name, kind: blob.kind, first};
      const answer = await (blob.kind ? api.ofModel("difference", asked) : api.ofImage("channels", asked));
      if (this.blob !== blob) return;
      this.tiles = answer;
      this.drawTiles();
    } catch (error) {
      this.app.failed(error);
    }
  }

  turn(step) {
    if (!this.tiles) return;
    const {first, channels} = this.tiles.head;
    const page = this.tiles.page || (this.tiles.page = Math.max(48, this.tiles.head.ranges.length));
    const next = first + step * page;
    if (next >= 0 && next < channels) this.open(this.blob, next);
  }

  drawTiles() {
    if (!this.tiles) return;
    const {head, tiles} = this.tiles;
    const [count, height, width] = tiles.shape;
    $("blob-name").textContent = this.blob.kind ? `${this.blob.name}: port − Caffe${this.blob.kind === "diff" ? ", diff" : ""}` : this.blob.name;
    $("blob-range").textContent = `${head.channels} channel${head.channels === 1 ? "" : "s"} of ${shape(head.size)}, ${range(head.range)}`;
    $("page-text").textContent = `${head.first} to ${head.first + count - 1}`;
    $("earlier").disabled = head.first === 0;
    $("later").disabled = head.first + count >= head.channels;
    const own = $("normal").value === "own";
    const made = [];
    for (let i = 0; i < count; i++) {
      const canvas = element("canvas", {});
      drawValues(canvas, tiles.subarray(i * height * width, (i + 1) * height * width), height, width, own ? head.ranges[i] : head.range, Boolean(this.blob.kind));
      const button = element("button", {className: "tile"}, canvas, element("span", {}, `${head.first + i}`), element("span", {className: "soft"}, range(head.ranges[i])));
      button.setAttribute("aria-label", `Channel ${head.first + i}, ${range(head.ranges[i])}`);
      button.addEventListener("click", () => this.zoom(head.first + i));
      made.push(button);
    }
    $("tiles").replaceChildren(...made);
    $("tiles").dataset.blob = this.blob.name;
  }

  async zoom(channel) {
    try {
      const asked = {blob: this.blob.name, kind: this.blob.kind, channel};
      const answer = await api.ofImage("channel", asked);
      const [height, width] = answer.values.shape;
      this.zoomed = answer.values;
      drawValues($("zoomed-canvas"), answer.values, height, width, answer.head.range, Boolean(this.blob.kind));
      $("zoomed-name").textContent = `${this.blob.name}, channel ${channel}`;
      $("zoomed-text").textContent = `${shape([height, width])}, ${range(answer.head.range)}`;
      if (!$("zoomed").open) $("zoomed").showModal();
    } catch (error) {
      this.app.failed(error);
    }
  }

  zoomedValue(event) {
    const box = $("zoomed-canvas").getBoundingClientRect();
    const [height, width] = this.zoomed.shape;
    const x = Math.min(width - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * width)));
    const y = Math.min(height - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * height)));
    $("zoomed-text").textContent = `x ${x}, y ${y}: ${number(this.zoomed[y * width + x])}`;
  }

  async show_filters() {
    if (this.filters) return;
    const {head, filters} = await api.ofModel("weights", {});
    this.filters = filters;
    $("filters-text").textContent = `${head.layer}, ${shape(head.shape)}, ${range(head.range)}`;
    const [count, channels, height, width] = filters.shape;
    const most = Math.max(Math.abs(head.range[0]), Math.abs(head.range[1])) || 1;
    const size = height * width;
    const made = [];
    for (let k = 0; k < count; k++) {
      const canvas = element("canvas", {width, height});
      const data = canvas.getContext("2d").createImageData(width, height);
      for (let i = 0; i < size; i++) {
        // three channels are blue, green, red; others are shown by their mean
        const at = (c) => 127.5 + (127.5 * filters[(k * channels + c) * size + i]) / most;
        let mean = 0;
        for (let c = 0; channels !== 3 && c < channels; c++) mean += at(c) / channels;
        data.data.set(channels === 3 ? [at(2), at(1), at(0), 255] : [mean, mean, mean, 255], 4 * i);
      }
      canvas.getContext("2d").putImageData(data, 0, 0);
      made.push(element("div", {className: "tile"}, canvas, element("span", {}, `${k}`)));
    }
    $("filters").replaceChildren(...made);
  }

  async show_parity() {
    if (this.parity) return;
    $("parity").textContent = "Every layer is computed in float64 …";
    const {head} = await api.ofModel("parity", {});
    this.parity = head;
    const heads = ["", "layer", "blob", "verdict", "port, of the bound", "Caffe, of the bound", "distance", "reason"];
    // the first that fails stands first
    const order = head.rows.map((_, i) => i);
    if (head.first_bad !== null) order.unshift(...order.splice(head.first_bad, 1));
    const rows = order.map((i) => this.parityRow(head.rows[i], i === head.first_bad));
    $("parity").replaceChildren(
      element("p", {className: head.passed ? "verdict pass" : "verdict fail"}, head.headline),
      ...head.notes.map((note) => element("p", {className: "soft"}, note)),
      element("div", {className: "scroll"}, element("table", {className: "wide"},
        element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", {scope: "col"}, text)))),
        element("tbody", {}, ...rows))));
    // the first that fails, else the one that is farthest from Caffe's
    const shown = head.rows.filter((row) => row.image).sort((a, b) => b.distance / b.peak - a.distance / a.peak || 0);
    const first = head.rows[head.first_bad] || shown[0];
    if (first && first.image) await this.openDifference(first);
  }

  parityRow(row, isFirst) {
    const name = row.image ? element("button", {className: "link"}, row.name) : row.name;
    if (row.image)
      name.addEventListener("click", async () => {
        await this.openDifference(row);
        $("layers-blobs").scrollIntoView({block: "nearest"});
      });
    const texts = [row.kind, row.layers.join(", "), name, row.verdict, number(row.port), number(row.caffe), number(row.distance), row.reason];
    return element("tr", {className: `${row.verdict === "fail" ? "fail" : ""} ${isFirst ? "first" : ""}`}, ...texts.map((text) => element("td", {}, text)));
  }

  async openDifference(row) {
    $("layers-blobs").hidden = false;
    await this.open({name: row.name, kind: row.kind});
  }
}
