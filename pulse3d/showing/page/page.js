"use strict";
// Everything here is drawn from one block of data; no text of the video's becomes markup.

function start(data) {
  const [windows, rows, cols] = data.arrays.place_rate[1];
  const places = rows * cols;
  const rates = data.rate_axis_bpm.length;
  const shownWindows = data.windows; // which of all windows have maps here
  let step = 0;
  let chosen = data.start_place;
  let other = null; // a second place, to compare
  let comparing = false; // whether a click chooses the second
  let layer = "rate";
  let timer = null;

  const at = (array, place, window = step) => array[window * places + place];
  const known = (place, window = step) => at(data.place_rate, place, window) !== NO_RATE;
  const placeRate = (place, window = step) =>
    known(place, window) ? at(data.place_rate, place, window) / data.rate_steps : null;
  const consensus = (window = step) => data.rate.rate_bpm[shownWindows[window]];
  const layers = makeLayers(data, { at: (name, place) => at(data[name], place), placeRate, consensus });

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

  const [BLUE, WARM, PINK, RED, GREY] = ["#2a8fd0", "#d55e00", "#cc79a7", "#cc3311", "#8b97a5"];
  const REGIONS = ["#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b97a5"]; // as in map.png

  // the map
  const canvas = byId("map");
  const context = canvas.getContext("2d");
  const [width, height] = [data.frame_width_px, data.frame_height_px];
  // as many pixels for a frame of any size: sharp lines on small ones, no waiting for large ones
  const zoom = 1280 / Math.max(width, height);
  [canvas.width, canvas.height] = [Math.round(zoom * width), Math.round(zoom * height)];
  const view = new View(width, height);
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
    for (const id of ["wave", "place-wave"]) if (byId(id).layout) moveCursor(id, film.currentTime);
    requestAnimationFrame(follow);
  }

  function drawMap() {
    const { value, fades } = layers[layer];
    const { low, high, colours } = data.scales[layer];
    const fade = byId("fade").checked && fades;
    const [least, opacity] = [255 * Number(byId("threshold").value), 255 * Number(byId("opacity").value)];
    const image = new ImageData(cols, rows);
    for (let place = 0; place < places; place++) {
      const v = value(place);
      const confidence = at(data.confidence, place);
      if (v === null || confidence < least) continue;
      const share = Math.max(0, Math.min(1, (v - low) / (high - low)));
      const colour = data.colours[colours][Math.round(share * 255)];
      image.data.set(colour, 4 * place);
      image.data[4 * place + 3] = opacity * (fade ? confidence / 255 : 1);
    }
    small.getContext("2d").putImageData(image, 0, 0);
    const times = zoom * view.times;
    context.setTransform(times, 0, 0, times, -times * view.x, -times * view.y);
    context.imageSmoothingEnabled = true;
    context.drawImage(film && film.readyState >= 2 ? film : photo, 0, 0, width, height);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, left, top, right - left, bottom - top);
    // as large on a telephone
    drawNumbers(context, data.regions.table, (13 * canvas.width) / Math.max(canvas.clientWidth, 1) / times);
    drawOutline(context, rectangle(chosen), "#fff", 4 / times);
    if (other !== null) drawOutline(context, rectangle(other), PINK, 4 / times);
  }

  function rectangle(place) {
    const [w, h] = [(right - left) / cols, (bottom - top) / rows];
    return [left + (place % cols) * w, top + Math.floor(place / cols) * h, w, h];
  }

  function drawBar() {
    const { title, unit, note, digits, fades } = layers[layer];
    const { low, high, colours } = data.scales[layer];
    byId("fade").disabled = !fades;
    const bar = byId("bar-colours").getContext("2d");
    const image = new ImageData(256, 1);
    data.colours[colours].forEach((colour, i) => image.data.set([...colour, 255], 4 * i));
    bar.putImageData(image, 0, 0);
    byId("bar-ticks").replaceChildren(...barTicks(data.scales[layer], digits, layers[layer].ticks).map(([v, text]) => {
      const tick = Object.assign(document.createElement("span"), { textContent: text });
      tick.style.left = `${(100 * (v - low)) / (high - low)}%`;
      return tick;
    }));
    byId("bar-label").textContent = `${title}, ${unit}`;
    const warning = " No pulse was read out of this window: rates of single places are not to be trusted.";
    byId("layer-note").textContent = note + (consensus() === null ? warning : "");
  }

  // charts

  function drawRate() {
    const { time_s, rate_bpm, low_bpm, high_bpm } = data.rate;
    const half = time_s.length > 1 ? (time_s[1] - time_s[0]) / 2 : 1;
    const traces = [{ ...band(half), name: interval, mode: "area", color: "rgba(42,143,208,0.3)" }];
    if (data.truth) {
      traces.push({ x: data.truth.time_s, y: data.truth.rate_bpm, name: "truth", mode: "lines", color: "#888", dash: [3, 3],
        text: (i) => `truth ${number(data.truth.rate_bpm[i], 1)} bpm` });
    }
    const few = time_s.length < 3, several = data.regions.rates_bpm.length > 0;
    const frame = { x: time_s, y: rate_bpm, name: several ? "frame" : "pulse rate", mode: few ? "markers" : "lines+markers",
      // of hours of video the points would be a blot; those without neighbours are in the band
      size: few ? 9 : several || time_s.length >= 600 ? 1 : 4, color: BLUE,
      text: (i) => `${number(time_s[i], 1)} s: ${number(rate_bpm[i], 1)} bpm (${number(low_bpm[i])} to ${number(high_bpm[i])})` };
    // one of the regions has the frame's rate: a wide line under its own
    traces.push(several && !few ? { ...frame, width: 6, color: "rgba(42,143,208,0.45)" } : frame);
    data.regions.rates_bpm.forEach((y, i) => traces.push({ x: time_s, y, name: `region ${i + 1}`, mode: "lines+markers",
      size: few ? 9 : 1, width: 1.5, color: REGIONS[i], text: (k) => `region ${i + 1}: ${number(y[k], 1)} bpm` }));
    const layout = { x: { title: "time (s), centre of the window" }, y: { title: "pulse rate (bpm)" } };
    const values = low_bpm.concat(high_bpm, data.truth ? data.truth.rate_bpm : [], ...data.regions.rates_bpm);
    layout.y.range = rateRange(values);
    layout.legend = values.some((v) => v !== null);
    if (!layout.legend) layout.message = "no pulse found";
    layout.x.range = [time_s[0] - half, time_s[time_s.length - 1] + half];
    layout.cursor = time_s[shownWindows[step]];
    chart("rate", traces, layout);
    byId("rate").addEventListener("click", (event) => {
      const { inverse, xRange } = scales(byId("rate"));
      const x = inverse(event.clientX - byId("rate").getBoundingClientRect().left);
      if (x >= xRange[0] && x <= xRange[1]) seek(nearest(x));
    });
  }

  // The range of an axis that holds these rates, and no less than 40 bpm.
  function rateRange(rates_bpm) {
    const known = rates_bpm.filter((v) => v !== null);
    if (!known.length) return [40, 120];
    const [low, high] = [Math.min, Math.max].map((best) => known.reduce((a, b) => best(a, b)));
    const middle = (low + high) / 2, reach = Math.max((high - low) / 2 + 3, 20);
    return [middle - reach, middle + reach];
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

  function describe(place) {
    const rate = placeRate(place);
    const [row, col] = [Math.floor(place / cols), place % cols];
    return `Place at ${number(data.col_px[col])}, ${number(data.row_px[row])} px: ` + (rate === null ? "no pulse"
      : `${number(rate)} bpm, confidence ${number(at(data.confidence, place) / 255, 2)}`);
  }

  // Of the chosen place, and of the other one if two are compared.
  function drawPlace() {
    const pair = other === null ? [chosen] : [chosen, other];
    byId("place-title").textContent = describe(chosen);
    byId("other-title").hidden = other === null;
    if (other !== null) byId("other-title").textContent = describe(other);
    const colours = [BLUE, PINK];
    const axis = data.rate_axis_bpm;
    const names = other === null ? [] : ["first place", "second place"];
    const shares = pair.map((place) => {
      const first = (step * places + place) * rates;
      return Array.from(data.probability.subarray(first, first + rates), (v) => v / 255);
    });
    const most = Math.max(0.05, 1.1 * Math.max(...shares.flat()));
    chart("spectrum", [
      ...shares.map((y, i) => ({ x: axis, y, mode: i ? "lines" : "bars", color: colours[i], name: names[i],
        text: (k) => `${number(axis[k])} bpm: ${number(y[k], 3)}` })),
      // the rate that was read for the place, from all that is known
      ...pair.map((place, i) => ({ x: [placeRate(place), placeRate(place)], y: placeRate(place) === null ? [null, null] : [0, most],
        mode: "lines", dash: [5, 4], color: colours[i] })),
    ], {
      x: { title: "pulse rate (bpm)", range: [axis[0] - 2, axis[rates - 1] + 2] },
      y: { title: "probability", range: [0, most] }, cursor: consensus(), legend: names.length > 0,
    });
    const times = shownWindows.map((window) => data.rate.time_s[window]);
    const lines = pair.map((place) => times.map((_, window) => placeRate(place, window)));
    const frames = times.map((_, i) => consensus(i));
    chart("place-rate", [
      { x: times, y: frames, mode: "lines", color: WARM, width: 1, name: "frame" },
      ...lines.map((y, i) => ({ x: times, y, mode: "lines+markers", color: colours[i], width: 1, name: names[i] || "place",
        text: (k) => `${number(times[k], 1)} s: ${number(y[k])} bpm` })),
    ], {
      x: { title: "time (s)", range: [times[0] - 1, times[times.length - 1] + 1] },
      y: { title: "rate (bpm)", range: rateRange([...frames, ...lines.flat()]) }, cursor: times[step],
      legend: [...frames, ...lines.flat()].some((v) => v !== null),
    });
    const waves = pair.map((place) => placeWave(data, place)).map((wave, i) => ({ wave, color: colours[i] }))
      .filter(({ wave }) => wave);
    chartWave("place-wave", waves, waves.length ? "no pulse" : "no wave of this place here; map.npz has all places");
  }

  // The index of the rate of the axis next to a rate.
  function nearestRate(rate) {
    const axis = data.rate_axis_bpm;
    return Math.max(0, Math.min(rates - 1, Math.round((rate - axis[0]) / (axis[1] - axis[0]))));
  }

  function drawVotes() {
    const [axis, votes] = [data.rate_axis_bpm, new Array(rates).fill(0)];
    for (let place = 0; place < places; place++) {
      const rate = placeRate(place);
      if (rate !== null) votes[nearestRate(rate)]++;
    }
    chart("votes", [{ x: axis, y: votes, mode: "bars", color: GREY, text: (i) => `${number(axis[i])} bpm: ${votes[i]} places` }], {
      x: { title: "pulse rate (bpm)", range: [axis[0] - 2, axis[rates - 1] + 2] },
      y: { title: "places", range: [0, Math.max(1, 1.1 * Math.max(...votes))] }, cursor: consensus(),
    });
  }

  // Waves of the whole video, as far as they are in this window; message: what is said if there are none.
  function chartWave(id, waves, message) {
    const middle = data.rate.time_s[shownWindows[step]];
    const half = summary.window_s / 2;
    const inside = data.wave.time_s.map((_, i) => i).filter((i) => Math.abs(data.wave.time_s[i] - middle) <= half);
    const x = inside.map((i) => data.wave.time_s[i]);
    const traces = waves.map(({ wave, color }) => {
      const y = inside.map((i) => wave[i]);
      return { x, y, mode: "lines", color, text: (i) => `${number(x[i], 2)} s: ${number(y[i], 3)} %` };
    });
    const none = traces.every(({ y }) => y.every((v) => v === null));
    chart(id, traces, {
      x: { title: "time (s)", range: [middle - half, middle + half] }, y: { title: "pulse wave (%)" },
      cursor: film && !none ? film.currentTime : null, message: none ? message : "",
    });
  }

  function drawWave() {
    chartWave("wave", [{ wave: data.wave.percent, color: RED }], "no pulse");
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

  function choose(place, second = comparing) {
    if (second) other = place; else chosen = place;
    const [x, y, w, h] = rectangle(place);
    view.show(x + w / 2, y + h / 2);
    drawMap();
    drawPlace();
    showComparing();
  }

  function compare(on) {
    comparing = on;
    if (!on) other = null;
    drawMap();
    drawPlace();
    showComparing();
  }

  function showComparing() {
    byId("compare").setAttribute("aria-pressed", String(comparing || other !== null));
    byId("compare-note").hidden = !comparing;
    byId("compare-note").textContent = other === null ? "Choose the place to compare with; the button ends it."
      : "A click or the arrow keys move the second place; the button ends it.";
  }

  function magnify(factor, x, y) {
    view.zoom(factor, x, y);
    byId("zoom-out").disabled = view.times === 1;
    drawMap();
  }

  function magnifyHere(factor) {
    const [x, y, w, h] = rectangle(comparing && other !== null ? other : chosen);
    magnify(factor, x + w / 2, y + h / 2);
  }

  function savePicture() {
    const [{ title, unit, digits, ticks: inner }, scale] = [layers[layer], data.scales[layer]];
    const line = `${data.name}, ${byId("clock").textContent}`;
    const label = `${title} (${unit.replace(/[()]/g, "")})`;
    mapPicture(canvas, byId("bar-colours"), scale, barTicks(scale, digits, inner), label, line)
      .toBlob((blob) => save(blob, `${stem}_${layer}.png`));
  }

  function saveTable(name, columns) {
    save(new Blob([asCsv(columns)], { type: "text/csv" }), `${stem}_${name}.csv`);
  }

  function saveWaves() {
    const columns = { time_s: data.wave.time_s, frame_percent: data.wave.percent };
    for (const place of other === null ? [chosen] : [chosen, other]) {
      const where = `place_${number(data.col_px[place % cols])}_${number(data.row_px[Math.floor(place / cols)])}_px`;
      const wave = placeWave(data, place);
      if (wave) columns[`${where}_percent`] = wave.map((v) => (v === null ? null : v.toFixed(4)));
    }
    saveTable("wave", columns);
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

  // The point of the frame under the mouse.
  function pointUnder(event) {
    const box = canvas.getBoundingClientRect();
    // the picture is fitted into the canvas's box
    const scale = Math.min(box.width / width, box.height / height);
    const x = (event.clientX - box.left - (box.width - scale * width) / 2) / scale;
    const y = (event.clientY - box.top - (box.height - scale * height) / 2) / scale;
    return x < 0 || y < 0 || x > width || y > height ? null : [view.x + x / view.times, view.y + y / view.times];
  }

  function placeUnder(event) {
    const point = pointUnder(event);
    if (!point) return null;
    const col = Math.floor(((point[0] - left) / (right - left)) * cols);
    const row = Math.floor(((point[1] - top) / (bottom - top)) * rows);
    return col < 0 || row < 0 || col >= cols || row >= rows ? null : row * cols + col;
  }

  slider.addEventListener("input", () => seek(Number(slider.value)));
  byId("play").addEventListener("click", () => play(!playing()));
  for (const id of ["fade", "threshold", "opacity"]) {
    byId(id).addEventListener("input", () => {
      for (const name of ["threshold", "opacity"]) byId(`${name}-value`).textContent = number(Number(byId(name).value), 2);
      drawMap();
    });
  }
  byId("compare").addEventListener("click", () => compare(!(comparing || other !== null)));
  byId("zoom-in").addEventListener("click", () => magnifyHere(2));
  byId("zoom-out").addEventListener("click", () => magnifyHere(0.5));
  const stem = data.name.replace(/\.[^.]*$/, "");
  byId("save-map").addEventListener("click", savePicture);
  byId("save-rates").addEventListener("click", () => {
    const { time_s, rate_bpm, ...others } = data.rate;
    saveTable("rates", { time_s, pulse_rate_bpm: rate_bpm, ...others });
  });
  byId("save-waves").addEventListener("click", saveWaves);
  // Two fingers on a touchpad are a wheel with Ctrl; in a magnified map, the wheel alone moves it.
  canvas.addEventListener("wheel", (event) => {
    const point = pointUnder(event);
    if (!point || !(event.ctrlKey || view.times > 1)) return;
    event.preventDefault();
    if (event.ctrlKey) return magnify(Math.exp(-0.01 * event.deltaY), ...point);
    view.move(view.x + event.deltaX / view.times, view.y + event.deltaY / view.times);
    drawMap();
  }, { passive: false });
  // A control that was clicked gives the keys back; one that was reached by keys keeps them.
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("button, label, input")) document.activeElement.blur();
  });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => document.querySelectorAll(".plot").forEach(drawChart));
  canvas.addEventListener("click", (event) => {
    const place = placeUnder(event);
    if (place !== null) choose(place, event.shiftKey || comparing);
  });
  canvas.addEventListener("mousemove", (event) => {
    const place = placeUnder(event);
    const tip = byId("tip");
    tip.hidden = place === null;
    if (place === null) return;
    const { value, unit, digits } = layers[layer];
    const v = value(place);
    tip.textContent = v === null ? (known(place) ? "not known" : "no pulse") : `${number(v, digits)} ${unit}`;
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
      if (event.key === "Escape") { target.blur(); return; }
      if (down || along) {
        const from = comparing && other !== null ? other : chosen;
        const [row, col] = [Math.floor(from / cols) + down, (from % cols) + along];
        if (row >= 0 && row < rows && col >= 0 && col < cols) choose(row * cols + col);
        event.preventDefault();
        return;
      }
    }
    if (event.key === "c") {
      compare(!(comparing || other !== null));
    } else if (event.key === " " && target.tagName !== "BUTTON" && (target.tagName !== "INPUT" || target === slider)) {
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
  byId("words").textContent = data.sentences.join(" ");
  fillTable("summary", data.table);
  byId("files").textContent = summary.files && summary.files.length ? `Written with it: ${summary.files.join(", ")}.` : "";
  fillTable("regions", data.regions.table.map((of) => [of.region, of.pulse_rate_bpm || "no pulse",
    of.pulse_rate_bpm && `${of.low_bpm} to ${of.high_bpm}`, of.confidence, `${of.windows_with_pulse} of ${of.windows}`,
    number(100 * of.share_of_frame, 1), `${of.col_px}, ${of.row_px}`]));
  byId("region-panel").hidden = !data.regions.table.length;
  // of one window there is a number, and nothing over time
  for (const element of document.querySelectorAll(".over-time")) element.hidden = data.rate.time_s.length === 1;
  const opened = windows > 1 && summary.windows_with_pulse ? `It opened at ${number(data.rate.time_s[shownWindows[data.start_window]], 1)} s, where the map is most` +
    " like that of the whole video; a window is shown at its centre." : "";
  byId("subset").textContent = [opened, data.note].filter((text) => text).join(" ");
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
