"use strict";
// Charts of the numbers in #data, and the buttons that say what of them is drawn.

const page = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set(); // numbers of runs
const root = document.documentElement;
const HEIGHT = 230, LEFT = 52, RIGHT = 14, TOP = 26, BOTTOM = 40;

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const usable = (value, log) => value !== null && (!log || value > 0);

/** The smallest and largest of all usable values, moved apart where they are equal. */
function range(lists, log) {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (const value of list) if (usable(value, log)) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return log ? [1, 10] : [0, 1];
  if (low === high) return log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  return [low, high];
}

/** A map of the domain to [from, to], and where it has ticks. */
function scale([low, high], from, to, log) {
  const f = log ? Math.log10 : (value) => value;
  const [a, b] = [f(low), f(high)];
  const at = (value) => from + ((to - from) * (f(value) - a)) / (b - a);
  return { at, log, ticks: (log ? logTicks : linearTicks)(low, high) };
}

function linearTicks(low, high) {
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high) {
  const [a, b] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.ceil((b - a) / 6), factors = b - a > 2 ? [1] : b - a > 1 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = a; power <= b; power += every) {
    for (const factor of factors) ticks.push(factor * 10 ** power);
  }
  const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return inside.length > 1 ? inside : linearTicks(low, high).filter((tick) => tick > 0);
}

function label(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

function path(points) {
  let drawn = "", down = false;
  for (const [x, y] of points) {
    const whole = Number.isFinite(x) && Number.isFinite(y);
    if (whole) drawn += `${down ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    down = whole;
  }
  return drawn;
}

const SHAPES = {
  line: (curve, x, y) => element("path", { d: path(points(curve, x, y)) }),
  dots: (curve, x, y) => {
    const r = 1.8, circle = ([a, b]) => `M${a - r} ${b}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
    return element("path", { d: points(curve, x, y).map(circle).join("") });
  },
  steps: (curve, x, y) => {
    const floor = HEIGHT - BOTTOM;
    const top = curve.y.flatMap((value, i) => [[x.at(curve.x[i]), y.at(value)], [x.at(curve.x[i + 1]), y.at(value)]]);
    return element("path", { d: path([[top[0][0], floor], ...top, [top[top.length - 1][0], floor]]) });
  },
  band: (curve, x, y) => {
    const low = points({ ...curve, y: curve.low }, x, y).reverse();
    return element("path", { d: path([...points(curve, x, y), ...low]) + "Z" });
  },
};

function points(curve, x, y) {
  const pairs = curve.x.map((value, i) => [value, curve.y[i]]);
  return pairs.filter(([a, b]) => usable(a, x.log) && usable(b, y.log)).map(([a, b]) => [x.at(a), y.at(b)]);
}

/** What a figure's own controls choose: which x, and whether y is logarithmic where it can be. */
function choice(figure) {
  const controls = figure.parentElement.previousElementSibling;
  const pressed = (query) => controls?.querySelector(`${query}[aria-pressed="true"]`);
  return { x: pressed("[data-x]")?.dataset.x, log: Boolean(pressed("[data-log]")) };
}

function draw(figure) {
  const chart = page.charts[figure.dataset.chart], chosen = choice(figure);
  const over = (curve) => (Array.isArray(curve.x) ? curve.x : curve.x[chosen.x]);
  const curves = chart.curves.filter((curve) => !hidden.has(curve.run)).map((curve) => ({ ...curve, x: over(curve) }));
  const width = Math.max(figure.clientWidth, 200);
  const positive = curves.every((curve) => curve.y.every((value) => value === null || value > 0));
  const log = { x: chart.log.includes("x"), y: chart.log.includes("y") || (chosen.log && positive) };
  const x = scale(range(curves.map((curve) => curve.x), log.x), LEFT, width - RIGHT, log.x);
  const tall = curves.flatMap((curve) => [curve.y, curve.low ?? []]);
  if (curves.some((curve) => curve.kind === "steps") && !log.y) tall.push([0]);
  const y = scale(range(tall, log.y), HEIGHT - BOTTOM, TOP, log.y);
  const title = `${chart.title}: ${chart.y} over ${chosen.x ?? chart.x}`;
  const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": title });
  const floor = HEIGHT - BOTTOM;
  for (const tick of x.ticks) {
    svg.append(element("path", { class: "axis", d: `M${x.at(tick)} ${floor}v4` }));
    svg.append(element("text", { x: x.at(tick), y: floor + 17, "text-anchor": "middle" }, label(tick)));
  }
  for (const tick of y.ticks) {
    svg.append(element("path", { class: "axis", d: `M${LEFT} ${y.at(tick)}H${width - RIGHT}` }));
    svg.append(element("text", { x: LEFT - 6, y: y.at(tick) + 4, "text-anchor": "end" }, label(tick)));
  }
  svg.append(element("path", { class: "axis", d: `M${LEFT} ${floor}H${width - RIGHT}` }));
  svg.append(element("text", { x: 0, y: 11 }, chart.y));
  svg.append(element("text", { x: width - RIGHT, y: HEIGHT - 5, "text-anchor": "end" }, chosen.x ?? chart.x));
  const crowded = curves.filter((curve) => curve.kind === "steps").length > 1;
  for (const curve of curves) {
    const shape = SHAPES[curve.kind](curve, x, y);
    const own = { line: "curve", dots: "dots", steps: crowded ? "curve" : "curve steps", band: "band" }[curve.kind];
    shape.setAttribute("class", curve.run === null ? (curve.kind === "band" ? "band" : "reference") : `${own} run-${curve.run % 8}`);
    svg.append(shape);
  }
  figure.querySelector("svg")?.remove();
  figure.append(svg);
}

const figures = [...document.querySelectorAll(".chart")];
const drawAll = () => figures.filter((figure) => !figure.hidden).forEach(draw);
const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", String(on));

const ACTIONS = {
  run: (button) => {
    press(button, !isPressed(button));
    hidden[isPressed(button) ? "delete" : "add"](Number(button.dataset.run));
  },
  x: (button) => button.parentElement.querySelectorAll("[data-x]").forEach((other) => press(other, other === button)),
  log: (button) => press(button, !isPressed(button)),
  term: (button) => {
    press(button, !isPressed(button));
    document.querySelector(`[data-chart="${button.dataset.term}"]`).hidden = !isPressed(button);
  },
};
for (const [name, act] of Object.entries(ACTIONS)) {
  for (const button of document.querySelectorAll(`button[data-${name}]`)) {
    button.addEventListener("click", () => { act(button); drawAll(); });
  }
}

const theme = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (root.style.colorScheme || (system.matches ? "dark" : "light")) === "dark";
const offer = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => { root.style.colorScheme = dark() ? "light" : "dark"; offer(); });
system.addEventListener("change", offer);
offer();

let width = 0;
new ResizeObserver(() => {
  if (width !== document.body.clientWidth) { width = document.body.clientWidth; drawAll(); }
}).observe(document.body);
