"use strict";
// Line and bar charts on a canvas. A chart keeps what it shows in `data` and `layout` of its element.
//
// A trace: {x, y, mode: "lines" | "markers" | "lines+markers" | "bars" | "area", color, name, width, size, dash, text};
// null in y is a gap, an area is a closed outline. A layout: {x, y: {title, range}, cursor: a time or rate, message: a
// text instead of data, legend: whether the named traces are listed}. text(i): what is said about a point under the mouse.

const MARGIN = { left: 52, right: 12, top: 10, bottom: 40 };

// Round steps of which about `count` fit from low to high, at least two if they are to say anything.
function ticks(low, high, count) {
  const rough = Math.max(high - low, 1e-9) / count;
  const size = 10 ** Math.floor(Math.log10(rough));
  const steps = [0.5, 1, 2, 5, 10].map((factor) => factor * size), chosen = steps.findIndex((step) => step >= rough);
  const fit = (step) => Math.floor(high / step) - Math.ceil(low / step) + 1;
  const step = fit(steps[chosen]) < 2 && chosen ? steps[chosen - 1] : steps[chosen];
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) {
    found.push([k * step, (k * step).toFixed(digits).replace(/^-(?=[\d.]*[1-9])/, "\u2212").replace(/^-/, "")]);
  }
  return found;
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return low > high ? [0, 1] : low === high ? [low - 1, high + 1] : [low, high];
}

function scales(element) {
  const { data, layout } = element;
  const [width, height] = [element.clientWidth, element.clientHeight];
  const top = MARGIN.top + (layout.legend ? 18 : 0);
  const xRange = layout.x.range || extent(data.flatMap((trace) => trace.x));
  let yRange = layout.y.range;
  if (!yRange) {
    const [low, high] = extent(data.flatMap((trace) => trace.y));
    yRange = [low - 0.08 * (high - low), high + 0.08 * (high - low)];
  }
  const across = width - MARGIN.left - MARGIN.right, down = height - top - MARGIN.bottom;
  return {
    width, height, top, xRange, yRange, across, down,
    x: (v) => MARGIN.left + (across * (v - xRange[0])) / (xRange[1] - xRange[0]),
    y: (v) => top + down * (1 - (v - yRange[0]) / (yRange[1] - yRange[0])),
    inverse: (px) => xRange[0] + ((px - MARGIN.left) / across) * (xRange[1] - xRange[0]),
  };
}

function drawTrace(context, trace, at) {
  const { x, y, mode, color } = trace;
  context.strokeStyle = context.fillStyle = color;
  context.lineWidth = trace.width || 2;
  context.setLineDash(trace.dash || []);
  if (mode === "bars") {
    const width = Math.max(1, x.length > 1 ? at.x(x[1]) - at.x(x[0]) : 8);
    y.forEach((v, i) => context.fillRect(at.x(x[i]) - width / 2, at.y(v), width, at.y(0) - at.y(v)));
    return;
  }
  context.beginPath();
  let open = false;
  y.forEach((v, i) => {
    if (v === null) { open = false; return; }
    if (open) context.lineTo(at.x(x[i]), at.y(v)); else context.moveTo(at.x(x[i]), at.y(v));
    open = true;
  });
  if (mode === "area") context.fill();
  if (mode.includes("lines")) context.stroke();
  if (mode.includes("markers")) {
    y.forEach((v, i) => {
      if (v === null) return;
      context.beginPath();
      context.arc(at.x(x[i]), at.y(v), (trace.size || 5) / 2, 0, 2 * Math.PI);
      context.fill();
    });
  }
}

function drawChart(element) {
  const canvas = element.firstChild;
  const at = scales(element);
  if (at.width < 1 || at.height < 1) return;
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(ratio * at.width), Math.round(ratio * at.height)];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(element);
  const [ink, grid, warm] = ["--ink", "--grid", "--warm"].map((name) => style.getPropertyValue(name));
  const { data, layout } = element;
  context.font = `12px ${style.fontFamily}`;
  context.lineWidth = 1;
  context.strokeStyle = grid;
  context.fillStyle = ink;
  context.textAlign = "center";
  for (const [value, text] of ticks(...at.xRange, at.across / 90)) {
    context.beginPath();
    context.moveTo(at.x(value), at.top);
    context.lineTo(at.x(value), at.top + at.down);
    context.stroke();
    context.fillText(text, at.x(value), at.top + at.down + 15);
  }
  context.fillText(layout.x.title, MARGIN.left + at.across / 2, at.height - 6);
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [value, text] of ticks(...at.yRange, Math.max(2, at.down / 30))) {
    context.beginPath();
    context.moveTo(MARGIN.left, at.y(value));
    context.lineTo(MARGIN.left + at.across, at.y(value));
    context.stroke();
    context.fillText(text, MARGIN.left - 6, at.y(value));
  }
  context.save();
  context.translate(12, at.top + at.down / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText(layout.y.title, 0, 0);
  context.restore();
  if (layout.message) {
    context.textAlign = "center";
    context.fillText(layout.message, MARGIN.left + at.across / 2, at.top + at.down / 2);
  }
  context.save();
  context.beginPath();
  context.rect(MARGIN.left, at.top, at.across, at.down);
  context.clip();
  data.forEach((trace) => drawTrace(context, trace, at));
  if (layout.cursor !== undefined && layout.cursor !== null) {
    drawTrace(context, { x: [layout.cursor, layout.cursor], y: at.yRange, mode: "lines", color: warm }, at);
  }
  context.restore();
  if (layout.legend) {
    let right = MARGIN.left + at.across;
    context.textAlign = "right";
    for (const trace of data.filter(({ name }) => name).toReversed()) {
      context.fillStyle = ink;
      context.fillText(trace.name, right, 10);
      right -= context.measureText(trace.name).width + 24;
      context.fillStyle = trace.color;
      context.fillRect(right, 8, 18, trace.mode === "area" ? 6 : 3);
      right -= 14;
    }
  }
}

// The point nearest to the mouse, in words.
function tell(element, event) {
  const [canvas, tip] = element.children;
  const at = scales(element);
  const box = canvas.getBoundingClientRect();
  const mouse = event.clientX - box.left;
  let best = { away: 24, text: "" };
  for (const trace of element.data.filter(({ text }) => text)) {
    trace.x.forEach((x, i) => {
      const away = Math.abs(at.x(x) - mouse);
      if (trace.y[i] !== null && away < best.away) best = { away, text: trace.text(i), x: at.x(x), y: at.y(trace.y[i]) };
    });
  }
  tip.hidden = !best.text;
  tip.textContent = best.text;
  if (best.text) {
    tip.style.left = `${best.x > at.width - 170 ? best.x - tip.offsetWidth - 8 : best.x + 8}px`;
    tip.style.top = `${Math.max(0, Math.min(best.y, at.height - 40))}px`;
  }
}

function chart(id, data, layout) {
  const element = document.getElementById(id);
  [element.data, element.layout] = [data, layout];
  if (!element.firstChild) {
    const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    element.append(document.createElement("canvas"), tip);
    new ResizeObserver(() => drawChart(element)).observe(element);
    element.addEventListener("mousemove", (event) => tell(element, event));
    element.addEventListener("mouseleave", () => (tip.hidden = true));
  }
  drawChart(element);
}

function moveCursor(id, cursor) {
  const element = document.getElementById(id);
  element.layout.cursor = cursor;
  drawChart(element);
}
