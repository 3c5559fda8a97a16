// The page: its state, tabs, theme and messages, and the image that all views share.

import * as api from "./api.js";
import {Stage} from "./stage.js";
import {ImageView} from "./image.js";
import {CrfView} from "./crf.js";
import {WhyView} from "./why.js";
import {LayersView} from "./layers.js";
import {TrainingView} from "./training.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "role") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const percent = (share, digits = 1) => (share === null ? "–" : `${(100 * share).toFixed(digits)} %`);

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : `${+value.toPrecision(4)}`;
}

export function square([red, green, blue]) {
  const made = element("i", {className: "square"});
  made.style.background = `rgb(${red},${green},${blue})`;
  return made;
}

const TABS = ["image", "crf", "why", "layers", "training"];

class App {
  constructor(subject) {
    this.subject = subject;
    this.tab = "image";
    this.photo = null; // {head, image, labels, confidence, entropy, truth?}
    this.refined = null; // the last answer of the CRF
    this.file = null; // what was uploaded, to send it again: {path, body}
    this.truth = null;
    this.stage = new Stage($("stage"), {
      hovered: (y, x) => this.hover(y, x),
      chosen: (...place) => this.views.why.chosen(...place),
    });
    this.views = {
      image: new ImageView(this), crf: new CrfView(this), why: new WhyView(this),
      layers: new LayersView(this), training: new TrainingView(this),
    };
    $("model").textContent = subject.title;
    document.title = `${subject.title} – explore`;
    $("limits").textContent = `Up to ${Math.round(subject.upload / 2 ** 20)} MB; more than ${(subject.pixels / 1e6).toFixed(1)} megapixels are reduced.`;
    $("tab-training").hidden = !subject.run;
    api.onRestart(() => this.restore());
    this.listen();
    this.samples();
  }

  listen() {
    for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => this.select(name));
    document.querySelector(".tabs").addEventListener("keydown", (event) => this.tabKey(event));
    $("open").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => this.upload($("file").files[0]));
    $("open-truth").addEventListener("click", () => $("truth-file").click());
    $("truth-file").addEventListener("change", () => this.uploadTruth($("truth-file").files[0]));
    $("zoom").addEventListener("change", () => this.stage.setZoom(+$("zoom").value));
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      $("drop").classList.add("over");
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      $("drop").classList.remove("over");
      if (event.dataTransfer.files[0]) this.upload(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = event.clipboardData.files[0];
      if (file) this.upload(file);
    });
    window.addEventListener("pagehide", () => api.close());
  }

  tabKey(event) {
    const shown = TABS.filter((name) => !$(`tab-${name}`).hidden);
    const at = shown.indexOf(this.tab);
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const name = shown[(to + shown.length) % shown.length];
    this.select(name);
    $(`tab-${name}`).focus();
  }

  select(name) {
    this.tab = name;
    document.body.dataset.tab = name;
    for (const other of TABS) {
      const tab = $(`tab-${other}`);
      tab.setAttribute("aria-selected", other === name);
      tab.tabIndex = other === name ? 0 : -1;
      $(`panel-${other}`).hidden = other !== name;
    }
    $("work").hidden = name === "layers" || name === "training";
    this.stage.setExtra(null);
    this.stage.setMarks([]);
    this.stage.picking = "none";
    for (const [other, view] of Object.entries(this.views)) if (other !== name && view.hide) view.hide();
    this.views[name].show();
  }

  // messages

  say(text, kind = "wrong") {
    const message = element("div", {className: `message ${kind}`}, element("span", {}, text));
    const close = element("button", {className: "plain"}, "×");
    close.setAttribute("aria-label", "Close the message");
    close.addEventListener("click", () => message.remove());
    message.append(close);
    $("messages").replaceChildren(message);
  }

  failed(error) {
    if (error.code === "dropped") return;
    if (!(error instanceof api.ApiError)) console.error(error);
    this.say(error.message, error.code || "fault");
  }

  clearMessages() {
    $("messages").replaceChildren();
  }

  // shows that something is computed; returns a function that ends it
  busy(text) {
    $("busy").hidden = false;
    $("busy-text").textContent = text;
    const own = (this.working = {});
    return () => {
      if (this.working === own) $("busy").hidden = true;
    };
  }

  // the image

  async upload(file) {
    if (!file) return;
    $("file").value = "";
    if (file.size > this.subject.upload) {
      this.say(`${file.name}: ${(file.size / 2 ** 20).toFixed(0)} MB; at most ${Math.round(this.subject.upload / 2 ** 20)} MB can be opened.`);
      return;
    }
    await this.open(`image?name=${encodeURIComponent(file.name)}`, file);
  }

  async open(path, body) {
    if (this.opening) this.opening.abort();
    const own = (this.opening = new AbortController());
    const done = this.busy("The network runs …");
    this.clearMessages();
    try {
      const answer = await api.ofImage(path, body, own.signal);
      this.file = {path, body};
      this.truth = null;
      this.refined = null;
      this.place(answer);
    } catch (error) {
      this.failed(error);
    } finally {
      done();
    }
  }

  async uploadTruth(file) {
    if (!file || !this.photo) return;
    $("truth-file").value = "";
    try {
      const answer = await api.ofImage(`truth?name=${encodeURIComponent(file.name)}`, file);
      this.truth = file;
      this.clearMessages();
      this.place(answer, true);
    } catch (error) {
      this.failed(error);
    }
  }

  // takes an answer about the image; keeps the CRF's result if only the truth is new
  place(answer, sameImage = false) {
    this.photo = answer;
    const {head} = answer;
    $("empty").hidden = true;
    $("stage").hidden = false;
    $("open-truth").disabled = false;
    const reduced = head.stored[0] !== head.height || head.stored[1] !== head.width;
    $("title").textContent = `${head.name}, ${head.width} × ${head.height}` + (reduced ? `, reduced from ${head.stored[1]} × ${head.stored[0]}` : "");
    this.stage.setPhoto(answer.image, head.height, head.width);
    for (const view of Object.values(this.views)) if (view.photoChanged) view.photoChanged(sameImage);
    this.views[this.tab].show();
    document.body.dataset.image = head.name;
  }

  // sends the image and the truth again, to a server that was restarted
  async restore() {
    if (!this.file) throw new api.ApiError("The server was restarted: open the image again.", "session");
    await api.ofImage(this.file.path, this.file.body, undefined, false);
    if (this.truth) await api.ofImage("truth?name=truth", this.truth, undefined, false);
    if (this.refined) await this.views.crf.repeat();
    this.clearMessages();
  }

  // shown results: "network" or "crf"
  result(which) {
    return which === "crf" && this.refined ? this.refined : this.photo;
  }

  hover(y, x) {
    if (!this.photo || y === null || y === undefined) {
      $("readout").textContent = "\u00a0";
      return;
    }
    const found = this.result(this.tab === "crf" ? "crf" : this.views.image.which());
    const at = y * this.photo.head.width + x;
    const label = found.labels[at];
    const parts = [element("span", {className: "soft"}, `x ${x}, y ${y}`), square(this.subject.colours[label]),
      element("b", {}, this.subject.classes[label]), ` ${percent(found.confidence[at] / 65535)}`];
    if (this.tab === "crf" && this.refined) {
      const before = this.photo.labels[at];
      if (before !== label) parts.push(element("span", {className: "soft"}, ` before: ${this.subject.classes[before]}`));
    }
    const extra = this.views.image.valueAt(at);
    if (extra) parts.push(element("span", {className: "soft"}, ` ${extra}`));
    if (this.photo.truth) {
      const truth = this.photo.truth[at];
      parts.push(element("span", {className: "soft"}, ` truth: ${truth === 255 ? "does not count" : this.subject.classes[truth]}`));
    }
    $("readout").replaceChildren(...parts);
  }

  samples() {
    const names = this.subject.samples;
    $("samples").hidden = !names.length;
    $("search-label").hidden = names.length < 25;
    const buttons = names.map((name, index) => {
      const image = element("img", {src: `api/samples/${index}`, alt: "", loading: "lazy", width: 96, height: 72});
      const button = element("button", {className: "sample", title: name, role: "option"}, image, element("span", {}, name));
      button.tabIndex = index ? -1 : 0;
      button.addEventListener("click", () => {
        for (const other of buttons) {
          other.setAttribute("aria-selected", other === button);
          other.tabIndex = other === button ? 0 : -1;
        }
        this.open(`image?sample=${index}`);
      });
      return button;
    });
    $("strip").replaceChildren(...buttons);
    if (this.subject.all_samples > names.length) $("strip").append(element("span", {className: "soft"}, `${this.subject.all_samples - names.length} more`));
    // one stop for Tab; the arrow keys move among the images
    $("strip").addEventListener("keydown", (event) => {
      const shown = buttons.filter((button) => !button.hidden);
      const at = shown.indexOf(document.activeElement);
      const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1}[event.key];
      if (to === undefined || !shown[to]) return;
      event.preventDefault();
      shown[to].focus();
    });
    $("search").addEventListener("input", () => {
      const word = $("search").value.toLowerCase();
      for (const button of buttons) button.hidden = !button.title.toLowerCase().includes(word);
      const first = buttons.find((button) => !button.hidden);
      for (const button of buttons) button.tabIndex = button === first ? 0 : -1;
    });
  }
}

function theme() {
  const names = ["", "light", "dark"];
  const words = {"": "Auto", light: "Light", dark: "Dark"};
  let chosen = "";
  try {
    chosen = localStorage.getItem("theme") || "";
  } catch {
    // a frame of a notebook may have no storage
  }
  const apply = () => {
    document.documentElement.dataset.theme = chosen;
    $("theme").textContent = words[chosen];
    $("theme").setAttribute("aria-label", `Theme: ${words[chosen]}`);
  };
  $("theme").addEventListener("click", () => {
    chosen = names[(names.indexOf(chosen) + 1) % names.length];
    try {
      localStorage.setItem("theme", chosen);
    } catch {
      // it then lasts as long as the page
    }
    apply();
  });
  apply();
}

async function start() {
  theme();
  try {
    new App(await api.subject());
    document.body.dataset.ready = "yes";
  } catch (error) {
    $("messages").replaceChildren(element("div", {className: "message fault"}, error.message));
    if (!(error instanceof api.ApiError)) throw error;
  }
}

start();
