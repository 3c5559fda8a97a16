// The training: curves of a log as it grows, and what the newest snapshot says.

import * as api from "./api.js";
import {$, element, percent} from "./app.js";
import {chart} from "./chart.js";
import {drawLabels, drawPhoto} from "./stage.js";

const PAUSE = 2000; // milliseconds between two looks at the folder
const KEPT = 8; // predictions

export class TrainingView {
  constructor(app) {
    this.app = app;
    this.number = 0;
    this.version = null;
    this.predicted = [];
    $("run").addEventListener("change", () => {
      this.number = +$("run").value;
      this.version = null;
      this.predicted = [];
      this.look();
    });
    $("predict").addEventListener("click", () => this.predict());
  }

  photoChanged(sameImage) {
    if (!sameImage) this.predicted = [];
    this.drawPredictions();
  }

  show() {
    this.hide();
    this.look();
    this.timer = setInterval(() => this.look(), PAUSE);
  }

  hide() {
    clearInterval(this.timer);
  }

  async look() {
    if (this.looking) return;
    this.looking = true;
    try {
      const {head} = await api.ofModel("run", {run: this.number, version: this.version});
      this.draw(head);
      if (this.failedBefore) this.app.clearMessages();
      this.failedBefore = false;
    } catch (error) {
      if (!this.failedBefore) this.app.failed(error);
      this.failedBefore = true;
    } finally {
      this.looking = false;
    }
  }

  draw(head) {
    $("run-row").hidden = head.runs.length < 2;
    if ($("run").options.length !== head.runs.length || [...$("run").options].some((option, i) => option.textContent !== head.runs[i]))
      $("run").replaceChildren(...head.runs.map((name, i) => element("option", {value: i, selected: i === this.number}, name)));
    $("run-name").textContent = head.run === null ? head.folder : head.runs[head.run];
    if (head.run === null) {
      $("run-text").textContent = "no log yet: it is shown as soon as there is one";
      return;
    }
    const {iteration, last, snapshot} = head;
    $("run-text").textContent = `iteration ${iteration.toLocaleString("en")}${last ? ` of ${last.toLocaleString("en")}` : ""}${snapshot === null ? "" : `, newest snapshot ${snapshot.toLocaleString("en")}`}`;
    $("progress").hidden = !last;
    if (last) $("progress").firstElementChild.style.width = percent(Math.min(1, (iteration + 1) / last));
    if (head.curves) {
      this.version = head.version;
      const order = ["Loss", "Outputs", "Learning rate"].filter((group) => head.curves[group]);
      $("charts").replaceChildren(...order.map((group) => chart(group === "Outputs" ? "Accuracy and other outputs" : group, head.curves[group])));
      $("charts").dataset.version = head.version;
    }
    this.snapshot = snapshot;
    $("predictions-card").hidden = snapshot === null;
    if (snapshot !== null && this.app.photo && !this.predicted.some((one) => one.iteration === snapshot)) this.predict();
    const key = head.maps.join(" ");
    $("maps-card").hidden = !head.maps.length;
    if (key !== this.maps || head.curves) {
      $("maps").replaceChildren(...head.maps.map((name, i) =>
        element("div", {className: "tile"}, element("img", {src: `api/maps/${i}?${encodeURIComponent(`${name} ${head.version}`)}`, alt: `label map of ${name}`}), element("span", {}, name))));
      this.maps = key;
    }
    this.drawPredictions();
  }

  async predict() {
    if (!this.app.photo || this.predicting) return;
    this.predicting = true;
    const {photo} = this.app;
    try {
      const answer = await api.ofImage("snapshot", {run: this.number});
      if (photo !== this.app.photo) return;
      const {iteration, iou} = answer.head;
      this.predicted = this.predicted.filter((one) => one.iteration !== iteration);
      this.predicted.push({iteration, iou, labels: answer.labels});
      this.predicted = this.predicted.slice(-KEPT);
      this.drawPredictions();
    } catch (error) {
      if (error.code !== "dropped") this.predicted.push({iteration: this.snapshot, error: error.message});
      this.drawPredictions();
    } finally {
      this.predicting = false;
    }
  }

  drawPredictions() {
    const {photo, subject} = this.app;
    $("predict").disabled = !photo;
    if (!photo) {
      $("predictions").replaceChildren(element("p", {className: "soft"}, "Open an image in the first view."));
      return;
    }
    const {height, width} = photo.head;
    $("predictions").replaceChildren(...this.predicted.map(({iteration, iou, labels, error}) => {
      if (error) return element("p", {className: "soft"}, `iteration ${iteration}: ${error}`);
      const under = element("canvas", {});
      const over = element("canvas", {className: "over"});
      drawPhoto(under, photo.image, height, width);
      drawLabels(over, labels, height, width, subject.colours);
      const text = iou ? `mean IoU ${percent(iou.mean)}` : "";
      return element("div", {className: "tile"}, element("div", {className: "stack"}, under, over), element("span", {}, `iteration ${iteration}`), element("span", {className: "soft"}, text));
    }));
  }
}
