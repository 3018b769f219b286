"use strict";
// Everything here is drawn from one block of data; no text of the video's becomes markup.

const byId = (id) => document.getElementById(id);
const [NONE, NO_RATE] = [255, 65535];

async function inflate(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// The block of data: the length of a JSON header, the header, then the arrays that it lists, of bytes or pairs of them.
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let offset = 4 + length;
  for (const [name, [bytes, shape]] of Object.entries(header.arrays)) {
    const end = offset + shape.reduce((a, b) => a * b, bytes);
    header[name] = new (bytes === 1 ? Uint8Array : Uint16Array)(buffer.slice(offset, end));
    offset = end;
  }
  return header;
}

// A number as text, with a true minus, and none before zero.
function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

function rateText(index, data) {
  const rate = data.rate.rate_bpm[index];
  if (rate === null) return "no pulse";
  return `${number(rate)} bpm (${number(data.rate.low_bpm[index])} to ${number(data.rate.high_bpm[index])})`;
}

function inWords(value) {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  return String(value);
}

function start(data) {
  const [windows, rows, cols] = data.arrays.place_rate[1];
  const places = rows * cols;
  const rates = data.rate_axis_bpm.length;
  const shownWindows = data.windows; // which of all windows have maps here
  let step = 0;
  let chosen = data.start_place;
  let layer = "rate";
  let timer = null;

  const at = (array, place, window = step) => array[window * places + place];
  const known = (place, window = step) => at(data.place_rate, place, window) !== NO_RATE;
  const placeRate = (place, window = step) =>
    known(place, window) ? data.rate_axis_bpm[at(data.place_rate, place, window)] : null;
  const consensus = (window = step) => data.rate.rate_bpm[shownWindows[window]];
  const scaled = (name) => (place) => {
    const value = at(data[name], place);
    const { low, high } = data.scales[name];
    return value === NONE ? null : low + ((high - low) * value) / 254;
  };
  const layers = {
    rate: {
      title: "pulse rate", unit: "bpm", digits: 0, value: placeRate,
      note: "The most likely rate of every place.",
    },
    confidence: {
      title: "confidence", unit: "(0 to 1)", digits: 2, value: (p) => at(data.confidence, p) / 255,
      note: "How sure every place is of its rate.",
    },
    deviation: {
      title: "deviation", unit: "bpm", digits: 0,
      value: (p) => (known(p) && consensus() !== null ? placeRate(p) - consensus() : null),
      note: "The rate of every place minus the pulse rate of this window. Red: faster, blue: slower.",
    },
    amplitude: {
      title: "amplitude", unit: "% of the mean of green", digits: 2, value: scaled("amplitude"),
      note: "How strongly every place changes at the pulse rate. Not a map of perfusion: light, motion and noise are in it.",
    },
    snr: {
      title: "SNR", unit: "dB", digits: 1, value: scaled("snr"),
      note: "Power at the pulse rate and its double against the rest, 36 to 198 bpm.",
    },
  };

  // header
  document.title = data.name;
  byId("name").textContent = data.name;
  byId("subtitle").textContent = data.subtitle;
  const summary = data.summary;
  const interval = `${number(100 * summary.interval)} % interval`;
  const strong = document.createElement("strong");
  if (summary.pulse_rate_median_bpm === null) {
    strong.textContent = "No pulse found";
    byId("headline").append(strong, summary.windows === 1 ? " in the one window" : ` in any of ${summary.windows} windows`);
  } else {
    const [low, high] = [summary.pulse_rate_low_median_bpm, summary.pulse_rate_high_median_bpm];
    strong.textContent = `${number(summary.pulse_rate_median_bpm, 1)} bpm`;
    const found = `${summary.windows_with_pulse} of ${summary.windows} windows with a pulse`;
    byId("headline").append(strong, ` median (${interval} ${number(low)} to ${number(high)}); ${found}`);
  }

  // the map
  const canvas = byId("map");
  const context = canvas.getContext("2d");
  const [width, height] = [data.frame_width_px, data.frame_height_px];
  // as many pixels for a frame of any size: sharp lines on small ones, no waiting for large ones
  const zoom = 1280 / Math.max(width, height);
  [canvas.width, canvas.height] = [Math.round(zoom * width), Math.round(zoom * height)];
  context.scale(zoom, zoom);
  const small = document.createElement("canvas");
  [small.width, small.height] = [cols, rows];
  const [left, right, bottom, top] = data.extent_px;
  const photo = new Image();
  photo.onload = drawMap;
  photo.src = data.frame;
  const film = openFilm();
  let moving = false; // whether the film, and not the slider, says what time it is

  // The video itself, in small, if the page has it and the browser can play it.
  function openFilm() {
    const coded = byId("film").textContent.trim();
    if (!coded) return null;
    const bytes = Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
    const opened = document.createElement("video");
    Object.assign(opened, { muted: true, playsInline: true, preload: "auto" });
    opened.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    for (const event of ["loadeddata", "seeked"]) opened.addEventListener(event, drawMap);
    opened.addEventListener("ended", () => play(false));
    return opened;
  }

  // What the moment of the film changes, while it plays.
  function follow() {
    if (!moving) return;
    const window = nearest(film.currentTime);
    if (window !== step) goTo(window); else drawMap();
    moveCursor("wave", film.currentTime);
    requestAnimationFrame(follow);
  }

  function drawMap() {
    const { value } = layers[layer];
    const { low, high, colours } = data.scales[layer];
    const fade = byId("fade").checked && layer !== "confidence";
    const image = new ImageData(cols, rows);
    for (let place = 0; place < places; place++) {
      const v = value(place);
      if (v === null) continue;
      const share = Math.max(0, Math.min(1, (v - low) / (high - low)));
      const colour = data.colours[colours][Math.round(share * 255)];
      image.data.set(colour, 4 * place);
      image.data[4 * place + 3] = 255 * (fade ? 0.85 * (at(data.confidence, place) / 255) : 0.8);
    }
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(film && film.readyState >= 2 ? film : photo, 0, 0, width, height);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, left, top, right - left, bottom - top);
    const [x, y, w, h] = rectangle(chosen);
    const line = 4 / zoom;
    context.lineWidth = 2 * line;
    context.strokeStyle = "#000";
    context.strokeRect(x, y, w, h);
    context.lineWidth = line;
    context.strokeStyle = "#fff";
    context.strokeRect(x, y, w, h);
  }

  function rectangle(place) {
    const [w, h] = [(right - left) / cols, (bottom - top) / rows];
    return [left + (place % cols) * w, top + Math.floor(place / cols) * h, w, h];
  }

  function drawBar() {
    const { title, unit, note, digits } = layers[layer];
    const { low, high, colours } = data.scales[layer];
    const bar = byId("bar-colours").getContext("2d");
    const image = new ImageData(256, 1);
    data.colours[colours].forEach((colour, i) => image.data.set([...colour, 255], 4 * i));
    bar.putImageData(image, 0, 0);
    byId("bar-low").textContent = number(low, digits);
    byId("bar-high").textContent = number(high, digits);
    byId("bar-label").textContent = `${title}, ${unit}`;
    const warning = " No pulse was read out of this window: rates of single places are not to be trusted.";
    byId("layer-note").textContent = note + (consensus() === null ? warning : "");
  }

  // charts
  const [BLUE, WARM, GREEN, PINK, RED] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#cc3311"];

  function drawRate() {
    const { time_s, rate_bpm, low_bpm, high_bpm } = data.rate;
    const half = time_s.length > 1 ? (time_s[1] - time_s[0]) / 2 : 1;
    const traces = [{ ...band(half), name: interval, mode: "area", color: "rgba(0,114,178,0.22)" }];
    if (data.truth) {
      traces.push({ x: data.truth.time_s, y: data.truth.rate_bpm, name: "truth", mode: "lines", color: "#888", dash: [3, 3],
        text: (i) => `truth ${number(data.truth.rate_bpm[i], 1)} bpm` });
    }
    const few = time_s.length < 3;
    traces.push({ x: time_s, y: rate_bpm, name: "pulse rate", mode: few ? "markers" : "lines+markers",
      // of hours of video the points would be a blot; those without neighbours are in the band
      size: few ? 9 : time_s.length < 600 ? 4 : 1, color: BLUE,
      text: (i) => `${number(time_s[i], 1)} s: ${number(rate_bpm[i], 1)} bpm (${number(low_bpm[i])} to ${number(high_bpm[i])})` });
    const layout = { x: { title: "time (s), centre of the window" }, y: { title: "pulse rate (bpm)" } };
    const values = low_bpm.concat(high_bpm, data.truth ? data.truth.rate_bpm : []).filter((v) => v !== null);
    if (values.length) {
      const [low, high] = [Math.min, Math.max].map((best) => values.reduce((a, b) => best(a, b)));
      const middle = (low + high) / 2, reach = Math.max((high - low) / 2 + 3, 20);
      layout.y.range = [middle - reach, middle + reach];
    } else {
      layout.y.range = [40, 120];
      layout.message = "no pulse found";
    }
    layout.x.range = [time_s[0] - half, time_s[time_s.length - 1] + half];
    layout.cursor = time_s[shownWindows[step]];
    layout.legend = values.length > 0;
    chart("rate", traces, layout);
    byId("rate").addEventListener("click", (event) => {
      const { inverse, xRange } = scales(byId("rate"));
      const x = inverse(event.clientX - byId("rate").getBoundingClientRect().left);
      if (x >= xRange[0] && x <= xRange[1]) seek(nearest(x));
    });
  }

  // The outline of the interval over time, a piece for each run of windows with a pulse: a gap stays a gap.
  function band(half) {
    const { time_s, rate_bpm, low_bpm, high_bpm } = data.rate;
    const [x, y] = [[], []];
    let first = 0;
    while (first < time_s.length) {
      if (rate_bpm[first] === null) { first++; continue; }
      let end = first;
      while (end < time_s.length && rate_bpm[end] !== null) end++;
      const alone = end === first + 1;
      const times = alone ? [time_s[first] - half, time_s[first] + half] : time_s.slice(first, end);
      const [low, high] = [low_bpm, high_bpm].map((v) => (alone ? [v[first], v[first]] : v.slice(first, end)));
      x.push([...times, ...times.toReversed(), null]);
      y.push([...low, ...high.toReversed(), null]);
      first = end;
    }
    return { x: x.flat(), y: y.flat() };
  }

  function nearest(time_s) {
    let best = 0;
    shownWindows.forEach((window, i) => {
      if (Math.abs(data.rate.time_s[window] - time_s) < Math.abs(data.rate.time_s[shownWindows[best]] - time_s)) best = i;
    });
    return best;
  }

  function drawPlace() {
    const first = (step * places + chosen) * rates;
    const shares = Array.from(data.probability.subarray(first, first + rates), (v) => v / 255);
    const rate = placeRate(chosen);
    const [row, col] = [Math.floor(chosen / cols), chosen % cols];
    const where = `${number(data.col_px[col])}, ${number(data.row_px[row])} px`;
    byId("place-title").textContent = `Place at ${where}: ` + (rate === null ? "no pulse"
      : `${number(rate)} bpm, confidence ${number(at(data.confidence, chosen) / 255, 2)}`);
    const axis = data.rate_axis_bpm;
    chart("spectrum", [{ x: axis, y: shares, mode: "bars", color: BLUE, text: (i) => `${number(axis[i])} bpm: ${number(shares[i], 3)}` }], {
      x: { title: "pulse rate (bpm)", range: [axis[0] - 2, axis[rates - 1] + 2] },
      y: { title: "probability", range: [0, Math.max(0.05, 1.1 * Math.max(...shares))] }, cursor: consensus(),
    });
    const times = shownWindows.map((window) => data.rate.time_s[window]);
    const series = times.map((_, i) => placeRate(chosen, i));
    chart("place-rate", [
      { x: times, y: times.map((_, i) => consensus(i)), mode: "lines", color: WARM, width: 1 },
      { x: times, y: series, mode: "lines+markers", color: GREEN, width: 1,
        text: (i) => `${number(times[i], 1)} s: ${number(series[i])} bpm` },
    ], {
      x: { title: "time (s)", range: [times[0] - 1, times[times.length - 1] + 1] },
      y: { title: "this place (bpm)", range: [axis[0] - 4, axis[rates - 1] + 4] }, cursor: times[step],
    });
  }

  function drawVotes() {
    const [axis, votes] = [data.rate_axis_bpm, new Array(rates).fill(0)];
    for (let place = 0; place < places; place++) {
      const index = at(data.place_rate, place);
      if (index !== NO_RATE) votes[index]++;
    }
    chart("votes", [{ x: axis, y: votes, mode: "bars", color: PINK, text: (i) => `${number(axis[i])} bpm: ${votes[i]} places` }], {
      x: { title: "pulse rate (bpm)", range: [axis[0] - 2, axis[rates - 1] + 2] },
      y: { title: "places", range: [0, Math.max(1, 1.1 * Math.max(...votes))] }, cursor: consensus(),
    });
  }

  function drawWave() {
    const middle = data.rate.time_s[shownWindows[step]];
    const half = summary.window_s / 2;
    const inside = data.wave.time_s.map((time, i) => i).filter((i) => Math.abs(data.wave.time_s[i] - middle) <= half);
    const [x, y] = [data.wave.time_s, data.wave.percent].map((values) => inside.map((i) => values[i]));
    chart("wave", [{ x, y, mode: "lines", color: RED, text: (i) => `${number(x[i], 2)} s: ${number(y[i], 3)} %` }], {
      x: { title: "time (s)", range: [middle - half, middle + half] }, y: { title: "pulse wave (%)" },
      cursor: film ? film.currentTime : null, message: y.every((v) => v === null) ? "no pulse" : "",
    });
  }

  // moving about
  const slider = byId("time");
  slider.max = windows - 1;
  slider.disabled = windows === 1;
  byId("play").disabled = windows === 1 && !film;

  function goTo(window) {
    step = Math.max(0, Math.min(windows - 1, window));
    slider.value = step;
    const now = data.rate.time_s[shownWindows[step]];
    if (film && !moving) film.currentTime = now;
    byId("clock").textContent = `${number(now, 1)} s: ${rateText(shownWindows[step], data)}`;
    slider.setAttribute("aria-valuetext", byId("clock").textContent);
    drawBar();
    drawMap();
    drawPlace();
    drawVotes();
    drawWave();
    moveCursor("rate", now);
  }

  // By the hand of who looks.
  function seek(window) {
    play(false);
    goTo(window);
  }

  function choose(place) {
    chosen = place;
    drawMap();
    drawPlace();
  }

  function play(on) {
    clearInterval(timer);
    timer = null;
    moving = on && film !== null && film.readyState >= 2;
    const last = step === windows - 1;
    if (moving) {
      if (last || film.ended) film.currentTime = 0;
      film.play().catch(() => play(false));
      requestAnimationFrame(follow);
    } else if (film) {
      film.pause();
    }
    if (on && !moving && windows > 1) {
      if (last) goTo(0);
      timer = setInterval(() => (step < windows - 1 ? goTo(step + 1) : play(false)), 400);
    }
    byId("play").textContent = playing() ? "Pause" : "Play";
    byId("play").setAttribute("aria-pressed", String(playing()));
  }

  function playing() {
    return moving || timer !== null;
  }

  function placeUnder(event) {
    const box = canvas.getBoundingClientRect();
    // the picture is fitted into the canvas's box
    const scale = Math.min(box.width / width, box.height / height);
    const x = (event.clientX - box.left - (box.width - scale * width) / 2) / scale;
    const y = (event.clientY - box.top - (box.height - scale * height) / 2) / scale;
    const col = Math.floor(((x - left) / (right - left)) * cols);
    const row = Math.floor(((y - top) / (bottom - top)) * rows);
    return col < 0 || row < 0 || col >= cols || row >= rows ? null : row * cols + col;
  }

  slider.addEventListener("input", () => seek(Number(slider.value)));
  byId("play").addEventListener("click", () => play(!playing()));
  byId("fade").addEventListener("change", drawMap);
  canvas.addEventListener("click", (event) => {
    const place = placeUnder(event);
    if (place !== null) choose(place);
  });
  canvas.addEventListener("mousemove", (event) => {
    const place = placeUnder(event);
    const tip = byId("tip");
    tip.hidden = place === null;
    if (place === null) return;
    const { value, unit, digits } = layers[layer];
    const v = value(place);
    tip.textContent = v === null ? "no pulse" : `${number(v, digits)} ${unit}`;
    const box = byId("stage").getBoundingClientRect();
    const x = event.clientX - box.left;
    tip.style.left = `${x > box.width - 150 ? x - tip.offsetWidth - 10 : x + 12}px`;
    tip.style.top = `${event.clientY - box.top + 12}px`;
  });
  canvas.addEventListener("mouseleave", () => (byId("tip").hidden = true));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const target = event.target;
    if (target === byId("stage")) {
      const [down, along] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] || [0, 0];
      if (down || along) {
        const [row, col] = [Math.floor(chosen / cols) + down, (chosen % cols) + along];
        if (row >= 0 && row < rows && col >= 0 && col < cols) choose(row * cols + col);
        event.preventDefault();
        return;
      }
    }
    if (event.key === " " && target.tagName !== "BUTTON" && (target.tagName !== "INPUT" || target === slider)) {
      play(!playing());
      event.preventDefault();
    } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && target.tagName !== "INPUT") {
      seek(step + (event.key === "ArrowRight" ? 1 : -1));
      event.preventDefault();
    }
  });

  for (const [name, { title }] of Object.entries(layers)) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "layer", value: name });
    input.checked = name === layer;
    input.addEventListener("change", () => { layer = name; drawBar(); drawMap(); });
    label.append(input, Object.assign(document.createElement("span"), { textContent: title }));
    byId("layers").append(label);
  }
  for (const [name, value] of Object.entries(summary)) {
    const row = document.createElement("tr");
    const cells = [document.createElement("th"), document.createElement("td")];
    cells[0].textContent = name.replace(/_(bpm|px|s|fps|percent)$/, " ($1)").replaceAll("_", " ");
    cells[1].textContent = inWords(value);
    row.append(...cells);
    byId("summary").append(row);
  }
  if (data.note) {
    byId("subset").textContent = data.note;
    byId("subset").hidden = false;
  }
  drawBar();
  drawRate();
  goTo(data.start_window);
  document.body.dataset.ready = "yes";
}

(async () => {
  try {
    start(unpack(await inflate("data")));
  } catch (error) {
    byId("problem").textContent = `This page could not be drawn (${error.message}). It needs a browser of 2023 or later.`;
    byId("problem").hidden = false;
    throw error;
  }
})();
