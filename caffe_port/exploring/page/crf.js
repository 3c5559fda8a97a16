// The CRF view: sliders, presets, what changed, and the setting for the command line.

import * as api from "./api.js";
import {$, element, percent} from "./app.js";
import {iouTable} from "./image.js";

const FIELDS = {
  pos_w: ["Weight", 0, 20, 0.5], pos_xy_std: ["Width, pixels", 1, 50, 1],
  bi_w: ["Weight", 0, 20, 0.5], bi_xy_std: ["Width, pixels", 1, 200, 1], bi_rgb_std: ["Width, colour", 1, 60, 1],
};
const GROUPS = {"Position kernel": ["pos_w", "pos_xy_std"], "Bilateral kernel": ["bi_w", "bi_xy_std", "bi_rgb_std"]};
const list = (value) => (Array.isArray(value) ? value : [value]);

export class CrfView {
  constructor(app) {
    this.app = app;
    this.latest = new api.Latest((asked) => this.refine(asked), (error) => app.failed(error));
    const {presets, crf} = app.subject;
    const options = Object.keys(presets).map((name) => element("option", {value: name}, name));
    if (crf) options.unshift(element("option", {value: "model"}, "as the command says"));
    options.push(element("option", {value: "own", disabled: true}, "own"));
    $("preset").replaceChildren(...options);
    $("preset").addEventListener("change", () => this.preset());
    $("colours").value = crf ? crf.colours : "layer";
    $("colours").addEventListener("change", () => this.ask());
    $("mark").addEventListener("change", () => this.draw());
    $("copy").addEventListener("click", () => this.copy());
    this.setParameters(crf || presets.v1_largefov);
    $("preset").value = crf ? "model" : "v1_largefov";
  }

  preset() {
    const name = $("preset").value;
    this.setParameters(name === "model" ? this.app.subject.crf : this.app.subject.presets[name]);
    this.ask();
  }

  // makes the sliders of parameters; those of several kernels are lists
  setParameters(parameters) {
    this.inputs = {};
    const groups = [];
    for (const [title, names] of Object.entries(GROUPS)) {
      const count = list(parameters[names[0]]).length;
      for (let kernel = 0; kernel < count; kernel++) {
        const rows = names.map((name) => this.slider(name, list(parameters[name])[kernel], ...FIELDS[name], count > 1 ? `, kernel ${kernel + 1}` : ""));
        groups.push(element("fieldset", {}, element("legend", {}, count > 1 ? `${title} ${kernel + 1}` : title), ...rows));
      }
    }
    groups.push(this.slider("iterations", parameters.iterations, "Iterations", 0, 30, 1, ""));
    $("kernels").replaceChildren(...groups);
  }

  slider(name, value, text, low, high, step, of) {
    const range = element("input", {type: "range", min: low, max: Math.max(high, value), step});
    const exact = element("input", {type: "number", min: name.endsWith("std") ? 0.01 : undefined, step: name === "iterations" ? 1 : "any", className: "exact"});
    range.value = value;
    exact.value = value;
    range.setAttribute("aria-label", `${text} ${name}${of}`);
    exact.setAttribute("aria-label", `${text} ${name}${of}, exact`);
    range.dataset.name = name;
    const changed = (from, to) => {
      if (from.value === "" || !Number.isFinite(+from.value)) return;
      to.value = from.value;
      $("preset").value = "own";
      this.ask();
    };
    range.addEventListener("input", () => changed(range, exact));
    exact.addEventListener("input", () => changed(exact, range));
    (this.inputs[name] ||= []).push(exact);
    return element("div", {className: "row slider"}, element("span", {}, text), range, exact);
  }

  parameters() {
    const found = {};
    for (const [name, inputs] of Object.entries(this.inputs)) {
      const values = inputs.map((input) => +input.value);
      found[name] = values.length > 1 ? values : values[0];
    }
    return found;
  }

  photoChanged(sameImage) {
    if (sameImage && this.app.refined) this.ask();
    else $("crf-result").textContent = "";
  }

  show() {
    this.app.stage.setMode($("mode").value);
    if (!this.app.photo) return;
    if (this.app.refined) this.draw();
    else this.ask();
  }

  ask() {
    if (this.app.photo) this.latest.ask({parameters: this.parameters(), colours: $("colours").value, of: this.app.photo});
  }

  async refine({of, ...asked}) {
    const started = performance.now();
    const done = this.app.refined ? () => {} : this.app.busy("The CRF runs …");
    try {
      const answer = await api.ofImage("crf", asked);
      if (of !== this.app.photo) return;
      this.app.refined = answer;
      this.asked = asked;
      this.seconds = (performance.now() - started) / 1000;
      this.app.clearMessages();
      this.app.views.image.values = null;
      this.app.views.image.options();
      if (this.app.tab === "crf") this.draw();
    } finally {
      done();
    }
  }

  // computes the last result again, on a server that was restarted
  async repeat() {
    this.app.refined = await api.ofImage("crf", this.asked, undefined, false);
  }

  draw() {
    const {app} = this;
    const {photo, refined} = app;
    if (!photo || !refined || app.tab !== "crf") return;
    app.stage.setMaps({name: "before", labels: photo.labels}, {name: "after the CRF", labels: refined.labels}, app.subject.colours);
    app.stage.setExtra($("mark").checked ? changedPixels(photo.labels, refined.labels) : null);
    const {changed, setting, iou} = refined.head;
    $("crf-result").replaceChildren(
      element("p", {}, element("b", {className: "big"}, percent(changed / photo.labels.length, 2)), ` of the pixels changed: ${changed.toLocaleString("en")} of ${photo.labels.length.toLocaleString("en")}`),
      element("p", {className: "soft"}, `computed in ${this.seconds.toFixed(2)} s`));
    $("setting").textContent = setting;
    document.body.dataset.setting = setting;
    $("crf-iou").replaceChildren(...(iou ? [iouTable(app.subject, photo.head.iou, iou)] : []));
  }

  async copy() {
    const text = $("setting").textContent;
    if (!text) return;
    try {
      await navigator.clipboard.writeText(text);
      $("copy").textContent = "Copied";
    } catch {
      // without the right to write, the text is selected for Ctrl-C
      getSelection().selectAllChildren($("setting"));
      $("copy").textContent = "Selected";
    }
    setTimeout(() => ($("copy").textContent = "Copy as --crf"), 1500);
  }
}

function changedPixels(before, after) {
  const pixels = new Uint8ClampedArray(4 * before.length);
  for (let i = 0; i < before.length; i++) if (before[i] !== after[i]) pixels.set([255, 0, 200, 230], 4 * i);
  return pixels;
}
