// The view of causes: Seg-Unravel's points for a pixel or a region.

import * as api from "./api.js";
import {$, element, percent} from "./app.js";
import {heatColour} from "./stage.js";

const COLOURS = ["#ffe100", "#3ddbd9", "#ff7eb6", "#8ae234"];
const PAUSE = 350; // milliseconds

export class WhyView {
  constructor(app) {
    this.app = app;
    this.place = null;
    this.answer = null;
    $("as-class").replaceChildren(
      element("option", {value: ""}, "the predicted one"),
      ...app.subject.classes.map((name, label) => element("option", {value: label}, name)));
    for (const id of ["as-class", "shift"]) $(id).addEventListener("change", () => this.ask());
    $("region").addEventListener("change", () => this.regionChanged());
    for (const id of ["heat", "points", "over"]) $(id).addEventListener("change", () => this.draw());
    $("frame").addEventListener("input", () => {
      this.stop();
      this.draw();
    });
    $("play").addEventListener("click", () => this.play());
  }

  photoChanged(sameImage) {
    if (sameImage) return;
    this.place = this.answer = null;
    this.hide();
    $("layer-card").hidden = $("evidence-card").hidden = true;
    this.hint();
  }

  show() {
    this.app.stage.picking = $("region").value;
    if (!this.app.photo) return;
    const {app} = this;
    const which = app.views.image.which();
    this.labels = {name: "labels", labels: app.result(which).labels};
    this.draw();
    if (!this.answer) app.stage.setMaps(null, this.labels, app.subject.colours);
  }

  hide() {
    this.stop();
  }

  hint() {
    $("why-hint").textContent = $("region").value === "rectangle" ? "Drag a rectangle in the image." : "Click a place in the image.";
  }

  regionChanged() {
    this.app.stage.picking = $("region").value;
    this.hint();
    // another kind of region at the same place; a rectangle needs two corners
    if (this.place && $("region").value !== "rectangle") this.ask();
  }

  chosen(y, x, y1, x1) {
    this.place = {y, x, ...(y1 === undefined ? {} : {y1, x1})};
    this.ask();
  }

  async ask() {
    if (!this.place || !this.app.photo) return;
    const region = $("region").value;
    if (region === "rectangle" && this.place.y1 === undefined) return;
    if (this.asking) this.asking.abort();
    const own = (this.asking = new AbortController());
    const label = $("as-class").value === "" ? null : +$("as-class").value;
    const done = this.app.busy("Tracing the points …");
    try {
      const body = {...this.place, region, label, shift: $("shift").value, which: this.app.views.image.which()};
      const answer = await api.ofImage("trace", body, own.signal);
      if (own.signal.aborted) return;
      this.answer = answer;
      this.app.clearMessages();
      $("frame").max = answer.head.frames.length - 1;
      $("frame").value = answer.head.frames.length - 1;
      this.draw();
    } catch (error) {
      this.app.failed(error);
    } finally {
      done();
    }
  }

  draw() {
    const {app, answer} = this;
    $("layer-card").hidden = $("evidence-card").hidden = !answer;
    if (!answer || app.tab !== "why") return;
    const {frames, label, window: shown} = answer.head;
    const frame = frames[+$("frame").value];
    const marks = [];
    if (shown[2] < app.photo.head.height || shown[3] < app.photo.head.width)
      marks.push({kind: "box", box: [shown[0], shown[1], shown[0] + shown[2] - 1, shown[1] + shown[3] - 1], colour: "#fff", dash: [6, 4]});
    if ($("points").checked)
      frame.forEach((panel, i) => marks.push({kind: "points", colour: COLOURS[i % COLOURS.length], at: answer.places.subarray(2 * panel.start, 2 * (panel.start + panel.count))}));
    marks.push(this.mark());
    // the labels would hide the points and the heat
    app.stage.setMaps(null, $("over").checked ? this.labels : null, app.subject.colours);
    app.stage.setExtra($("heat").checked ? heatPixels(answer.heat) : null);
    app.stage.setMarks(marks);
    $("why-hint").textContent = `Causes of ${app.subject.classes[label]}${$("region").value === "pixel" ? ` at x ${this.place.x}, y ${this.place.y}` : ""}`;
    $("frame-text").replaceChildren(...frame.map((panel, i) => {
      const dot = element("i", {className: "square round"});
      dot.style.background = COLOURS[i % COLOURS.length];
      return element("p", {}, dot, element("b", {}, panel.blob), ` ${panel.points.toLocaleString("en")} point${panel.points === 1 ? "" : "s"}`);
    }), element("p", {className: "soft"}, `layer ${+$("frame").value + 1} of ${frames.length}`));
    $("frame").setAttribute("aria-valuetext", frame.map((panel) => panel.blob).join(", "));
    $("evidence").replaceChildren(evidenceTable(app.subject, answer.head));
    document.body.dataset.traced = `${this.place.y},${this.place.x},${label},${answer.head.points}`;
  }

  mark() {
    const {y, x, y1, x1} = this.place;
    return {kind: "box", box: y1 === undefined ? [y, x, y, x] : [y, x, y1, x1], colour: "#ff3b7f"};
  }

  play() {
    if (this.timer) {
      this.stop();
      return;
    }
    if (!this.answer) return;
    const slider = $("frame");
    if (slider.value === slider.max) slider.value = 0;
    $("play").textContent = "❚❚";
    $("play").setAttribute("aria-label", "Pause");
    this.timer = setInterval(() => {
      slider.value = +slider.value + 1;
      if (slider.value === slider.max) this.stop();
      this.draw();
    }, PAUSE);
    this.draw();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    $("play").textContent = "▶";
    $("play").setAttribute("aria-label", "Play");
  }
}

function heatPixels(heat) {
  const pixels = new Uint8ClampedArray(4 * heat.length);
  for (let i = 0; i < heat.length; i++) {
    const [red, green, blue] = heatColour(heat[i] / 255);
    pixels.set([red, green, blue, 150 * Math.min(1, heat[i] / 25)], 4 * i);
  }
  return pixels;
}

function evidenceTable(subject, {evidence, label, points}) {
  const line = (name, value, note = "") => element("tr", {}, element("th", {scope: "row"}, name), element("td", {}, value, element("span", {className: "soft"}, note)));
  const rows = [line(`on ${subject.classes[label]} (inside)`, percent(evidence.inside), evidence.chance === null ? "" : ` by chance ${percent(evidence.chance)}`)];
  for (const [other, share] of evidence.on) if (other !== label) rows.push(line(`on ${subject.classes[other]}`, percent(share)));
  if (evidence.padding) rows.push(line("in the padding", percent(evidence.padding)));
  if (evidence.distance !== null) rows.push(line("median distance of those outside", `${evidence.distance.toFixed(1)} px`));
  if (evidence.hit !== null) rows.push(line("peak of the heat is inside", evidence.hit ? "yes" : "no"));
  const of = evidence.of_truth ? "the truth" : "the predicted labels";
  return element("div", {}, element("p", {className: "soft"}, `${points.toLocaleString("en")} points of the input, compared with ${of}`), element("div", {className: "scroll"}, element("table", {}, element("tbody", {}, ...rows))));
}
