// The image view: labels, confidence, entropy, scores of one class, legend, IoU.

import * as api from "./api.js";
import {$, element, number, percent, square} from "./app.js";
import {heatColour} from "./stage.js";

const NAMES = {labels: "labels", confidence: "confidence", entropy: "entropy", truth: "truth"};

export class ImageView {
  constructor(app) {
    this.app = app;
    this.values = null; // {key, label, kind, values, range}
    $("class").replaceChildren(...app.subject.classes.map((name, label) => element("option", {value: label}, name)));
    for (const id of ["show", "class", "which", "compare"]) $(id).addEventListener("change", () => this.show());
    $("mode").addEventListener("change", () => app.stage.setMode($("mode").value));
    $("opacity").addEventListener("input", () => this.opacity());
    this.opacity();
    this.scaleBar();
  }

  which() {
    return $("which").value;
  }

  opacity() {
    this.app.stage.setOpacity($("opacity").value / 100);
    $("opacity-text").textContent = `${$("opacity").value} %`;
  }

  scaleBar() {
    const context = $("scale-bar").getContext("2d");
    for (let i = 0; i < 256; i++) {
      context.fillStyle = `rgb(${heatColour(i / 255).map(Math.round).join(",")})`;
      context.fillRect(i, 0, 1, 1);
    }
  }

  photoChanged() {
    this.values = null;
    this.options();
  }

  // which choices are possible
  options() {
    const {photo, refined} = this.app;
    const enable = (id, value, yes, instead) => {
      const option = $(id).querySelector(`[value=${value}]`);
      option.disabled = !yes;
      if (!yes && $(id).value === value) $(id).value = instead;
    };
    enable("which", "crf", refined, "network");
    enable("compare", "crf", refined, "none");
    enable("compare", "truth", photo && photo.truth, "none");
    enable("show", "truth", photo && photo.truth, "labels");
  }

  async show() {
    const {app} = this;
    const kind = $("show").value;
    $("class-row").hidden = kind !== "probability" && kind !== "score";
    $("which").disabled = kind === "score" || kind === "truth" || kind === "photo";
    this.options();
    if (!app.photo) return;
    this.lists();
    try {
      const map = await this.map(kind);
      if (app.tab !== "image" || map === undefined) return;
      app.stage.setMaps(this.compared(), map, app.subject.colours);
      this.scale(map);
    } catch (error) {
      app.failed(error);
    }
  }

  async map(kind) {
    const {app} = this;
    const which = this.which();
    const result = app.result(which);
    const of = app.refined ? (which === "crf" ? ", CRF" : ", network") : "";
    if (kind === "photo") return null;
    if (kind === "labels") return {name: `labels${of}`, labels: result.labels};
    if (kind === "truth") return {name: "truth", labels: app.photo.truth};
    if (kind in NAMES) return {name: `${NAMES[kind]}${of}`, values: result[kind], range: [0, 65535], unit: 100 / 65535};
    const label = +$("class").value;
    const key = `${kind} ${label} ${kind === "score" ? "" : which}`;
    if (!this.values || this.values.key !== key) {
      const answer = await api.ofImage("values", {label, kind, which});
      this.values = {key, kind, values: answer.values, range: answer.head.range};
      if ($("show").value !== kind || +$("class").value !== label) return undefined;
    }
    const range = kind === "probability" ? [0, 1] : this.values.range;
    return {name: `${kind} of ${app.subject.classes[label]}${kind === "score" ? "" : of}`, values: this.values.values, range, unit: kind === "probability" ? 100 : 0};
  }

  compared() {
    const {photo, refined} = this.app;
    const chosen = $("compare").value;
    if (chosen === "photo") return {photo: true};
    if (chosen === "network") return {name: "labels, network", labels: photo.labels};
    if (chosen === "crf" && refined) return {name: "labels, CRF", labels: refined.labels};
    if (chosen === "truth" && photo.truth) return {name: "truth", labels: photo.truth};
    return null;
  }

  scale(map) {
    $("scale").hidden = !map || !map.values;
    if ($("scale").hidden) return;
    const text = (value) => (map.unit ? `${Math.round(value * map.unit)} %` : number(value));
    $("scale-low").textContent = text(map.range[0]);
    $("scale-high").textContent = text(map.range[1]);
  }

  // what the readout adds for a pixel
  valueAt(at) {
    const kind = $("show").value;
    if (this.app.tab !== "image") return "";
    if (kind === "entropy") return `entropy ${percent(this.app.result(this.which()).entropy[at] / 65535)}`;
    if (!this.values || kind !== this.values.kind) return "";
    const value = this.values.values[at];
    return kind === "probability" ? `probability ${percent(value)}` : `score ${number(value)}`;
  }

  lists() {
    const {app} = this;
    const {found, iou} = app.result(this.which()).head;
    $("legend").replaceChildren(
      ...found.map(([label, name, share]) =>
        element("li", {}, square(app.subject.colours[label]), element("span", {}, name), element("span", {className: "figure"}, percent(share)))),
    );
    $("iou-card").hidden = !iou;
    if (iou) $("iou").replaceChildren(iouTable(app.subject, iou));
  }
}

// A table of IoU; with a second result also that, and the gain.
export function iouTable(subject, before, after) {
  const cells = (values) => values.map((text) => element("td", {}, text));
  const gain = (a, b) => (a === null || b === null ? "–" : `${b >= a ? "+" : "−"}${(100 * Math.abs(b - a)).toFixed(1)}`);
  const line = (name, a, b) =>
    element("tr", {}, element("th", {scope: "row"}, name), ...cells(after ? [percent(a), percent(b), gain(a, b)] : [percent(a)]));
  const heads = after ? ["class", "before", "after", "gain"] : ["class", "IoU"];
  const rows = subject.classes.map((name, i) => [name, before.classes[i], after && after.classes[i]]).filter(([, a, b]) => a !== null || (b !== null && b !== undefined));
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", {scope: "col"}, head)))),
    element("tbody", {}, ...rows.map((row) => line(...row)), line("mean IoU", before.mean, after && after.mean), line("pixel accuracy", before.accuracy, after && after.accuracy)));
  return element("div", {className: "scroll"}, table);
}
