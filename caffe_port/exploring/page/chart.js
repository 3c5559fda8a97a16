// Line charts as SVG, with the values under the pointer.

import {element, number} from "./app.js";

const COLOURS = ["#3b8fd0", "#d9693a", "#2f9b5a", "#a065bd", "#b98a10", "#e0607a", "#43a3a3", "#8a94a3"];
const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [240, 58, 12, 12, 30];

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// multiples of 1, 2 or 5 times a power of ten
function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 2));
  const step = [1, 2, 5, 10].map((n) => n * power).find((one) => high - low <= 6 * one);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) found.push(+(i * step).toPrecision(12));
  return found;
}

function span(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low === Infinity) return null;
  if (high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high))) return [low, high];
  const pad = Math.max(0.5, 1e-3 * Math.abs(low)) * (Math.abs(low) < 0.1 && low ? Math.abs(low) : 1);
  return [low - pad, high + pad];
}

// curves: name -> [[x, y], ...]; a y of null leaves a gap
export function chart(title, curves) {
  const names = Object.keys(curves);
  const xs = span(names.flatMap((name) => curves[name].map(([x]) => x)));
  const ys = span(names.flatMap((name) => curves[name].map(([, y]) => y)));
  const card = element("div", {className: "card chart"}, element("h2", {}, title));
  if (!xs || !ys) {
    card.append(element("p", {className: "soft"}, "no finite value yet"));
    return card;
  }
  const width = window.innerWidth < 640 ? 360 : 440;
  const px = (x) => LEFT + ((x - xs[0]) / (xs[1] - xs[0])) * (width - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((y - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - BOTTOM - TOP);
  const drawing = svg("svg", {viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": title});
  for (const y of ticks(...ys)) {
    drawing.append(svg("path", {d: `M${LEFT} ${py(y)}H${width - RIGHT}`, class: "grid-line"}), svg("text", {x: LEFT - 8, y: py(y) + 4, class: "end"}, number(y)));
  }
  for (const x of ticks(...xs)) drawing.append(svg("text", {x: px(x), y: HEIGHT - 10, class: "middle"}, number(x)));
  names.forEach((name, i) => {
    let path = "";
    let pen = "M";
    for (const [x, y] of curves[name]) {
      if (y !== null && Number.isFinite(y)) path += `${pen}${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
      pen = y === null ? "M" : "L";
    }
    if (curves[name].length === 1) path += "h.01";
    drawing.append(svg("path", {d: path, class: "line", stroke: COLOURS[i % COLOURS.length]}));
  });
  const cursor = svg("path", {class: "cursor", d: ""});
  drawing.append(cursor);
  const values = {};
  const legend = element("div", {className: "keys"}, ...names.map((name, i) => {
    const dot = element("i", {className: "square"});
    dot.style.background = COLOURS[i % COLOURS.length];
    values[name] = element("b", {}, last(curves[name]));
    return element("span", {}, dot, `${name} `, values[name]);
  }));
  const at = element("span", {className: "soft"}, "");
  legend.append(at);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const x = xs[0] + ((((event.clientX - box.left) / box.width) * width - LEFT) / (width - LEFT - RIGHT)) * (xs[1] - xs[0]);
    if (x < xs[0] || x > xs[1]) return;
    cursor.setAttribute("d", `M${px(x)} ${TOP}V${HEIGHT - BOTTOM}`);
    at.textContent = `at iteration ${Math.round(x)}`;
    for (const name of names) values[name].textContent = number(nearest(curves[name], x));
  });
  drawing.addEventListener("pointerleave", () => {
    cursor.setAttribute("d", "");
    at.textContent = "";
    for (const name of names) values[name].textContent = last(curves[name]);
  });
  card.append(drawing, legend);
  return card;
}

const last = (points) => (points.length ? number(points[points.length - 1][1]) : "–");

function nearest(points, x) {
  let best = null;
  for (const point of points) if (best === null || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  return best && best[1];
}
