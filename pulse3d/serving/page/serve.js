"use strict";
// The page of `launch.serve`: sends videos, or the frames of the webcam, and shows what comes back. A job is a video
// or a webcam session; the newest one is on the stage, and every video has an entry in the list.

const byId = (id) => document.getElementById(id);
const [MAX_MB, WINDOW_S] = [Number(document.body.dataset.maxMb), Number(document.body.dataset.windowS)];
const RESULTS = document.body.dataset.results.split(" ");
const FINISHED = ["done", "failed", "stopped"];
const POLL_MS = 400, SEND_MS = 400; // from one question to the next, from one batch of frames to the next
const SIDE_PX = 320, MOST_FRAMES = 60; // of a webcam's frames; of a batch, beyond which the oldest are lost
const BLUE = "#0072b2", FAINT = "rgba(0,114,178,0.55)", RED = "#cc3311";

let shown = null; // what is on the stage: {film, status}
const unfinished = new Set(); // numbers of videos
let session = null; // of the webcam: {number, stream, film, batch, timer}

// talking to the program

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The program does not answer. Is it still running?");
  }
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

const post = (path, body) => ask(path, { method: "POST", body });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

// words

const number = (value, digits = 0) => (value === null ? "–" : value.toFixed(digits));

function waitingFor(status) {
  if (status.before[0] === "the network") return "waiting until the network is ready, which takes up to a minute";
  return status.before.length ? `waiting for ${status.before.join(", ")}` : "starting";
}

function rateInWords({ pulse_rate_bpm, low_bpm, high_bpm, confidence, enough_video }) {
  if (!enough_video) return ["no rate", "frames are missing; this machine may be busy"];
  if (pulse_rate_bpm === null) return ["no pulse", "in the newest window"];
  return [`${number(pulse_rate_bpm)} bpm`, `(${number(low_bpm)} to ${number(high_bpm)}), confidence ${number(confidence, 2)}`];
}

function summaryInWords(summary) {
  if (summary.pulse_rate_median_bpm === null) return ["no pulse found", `in ${summary.windows} windows`];
  const [low, high] = [summary.pulse_rate_low_median_bpm, summary.pulse_rate_high_median_bpm];
  return [`${number(summary.pulse_rate_median_bpm, 1)} bpm`, `median (${number(low)} to ${number(high)})`,
    `${summary.windows_with_pulse} of ${summary.windows} windows with a pulse`];
}

function headline([strong, rest]) {
  const element = document.createElement("strong");
  element.textContent = strong;
  byId("headline").replaceChildren(element, ` ${rest}`);
}

// the stage

function putOnStage(film) {
  shown = { film, status: null };
  byId("headline").replaceChildren();
  drawCharts({ rates: [], window: null });
}

// What is known of the job on the stage, since the last time.
function show(film, status) {
  if (!shown || shown.film !== film) return;
  const fresh = status.window && status.window.now_s !== shown.status?.window?.now_s;
  shown.status = status;
  if (status.summary) headline(summaryInWords(status.summary));
  else if (status.window) headline(rateInWords(status.window));
  if (status.state === "done") drawCharts(status); // with the readings from all windows
  if (!fresh) return;
  shown.picture = mapPicture(status.window.map);
  // a file is shown at the time of its map; a webcam goes on by itself
  if (!film.srcObject && film.readyState >= 1) film.currentTime = status.window.centre_s;
  drawCharts(status);
}

function mapPicture({ rgba, rows, cols }) {
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [cols, rows];
  const bytes = Uint8ClampedArray.from(atob(rgba), (c) => c.charCodeAt(0));
  picture.getContext("2d").putImageData(new ImageData(bytes, cols, rows), 0, 0);
  return picture;
}

function drawStage() {
  requestAnimationFrame(drawStage);
  const canvas = byId("map"), context = canvas.getContext("2d");
  if (!shown) {
    context.fillStyle = "#222";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#ccc";
    context.font = "22px sans-serif";
    context.textAlign = "center";
    context.fillText("Here the video and its map will be seen.", canvas.width / 2, canvas.height / 2);
    return;
  }
  const { film, status, picture } = shown;
  const map = status?.window?.map;
  const [width, height] = map ? map.frame_px : [film.videoWidth || 4, film.videoHeight || 3];
  const zoom = 960 / Math.max(width, height);
  const size = [Math.round(zoom * width), Math.round(zoom * height)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  context.fillStyle = "#222";
  context.fillRect(0, 0, ...size);
  if (film.readyState >= 2 && film.videoWidth) {
    shown.still = shown.still || document.createElement("canvas");
    if (shown.still.width !== film.videoWidth) [shown.still.width, shown.still.height] = [film.videoWidth, film.videoHeight];
    shown.still.getContext("2d").drawImage(film, 0, 0);
  }
  if (shown.still) context.drawImage(shown.still, 0, 0, ...size); // what was seen last, while a film seeks
  if (!map) return;
  const [left, right, bottom, top] = map.extent_px.map((v) => zoom * v);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, left, top, right - left, bottom - top);
}

function drawBar() {
  const colours = document.body.dataset.colours.match(/.{6}/g);
  const context = byId("bar-colours").getContext("2d");
  colours.forEach((colour, i) => {
    context.fillStyle = `#${colour}`;
    context.fillRect(i, 0, 1, 1);
  });
}

function drawCharts({ rates, window }) {
  const [time_s, rate, low, high] = [0, 1, 2, 3].map((i) => rates.map((row) => row[i]));
  const known = low.concat(high).filter((v) => v !== null);
  const middle = known.length ? (Math.min(...known) + Math.max(...known)) / 2 : 80;
  const reach = known.length ? Math.max((Math.max(...known) - Math.min(...known)) / 2 + 3, 20) : 40;
  const end_s = time_s.length ? time_s.at(-1) : WINDOW_S;
  chart("rate", [
    { x: time_s, y: low, mode: "lines", width: 1, color: FAINT, name: document.body.dataset.interval },
    { x: time_s, y: high, mode: "lines", width: 1, color: FAINT },
    { x: time_s, y: rate, mode: "lines+markers", size: 4, color: BLUE, name: "pulse rate",
      text: (i) => `${number(time_s[i], 1)} s: ${number(rate[i], 1)} bpm` },
  ], {
    x: { title: "time (s), end of the window", range: [time_s.length ? time_s[0] - 0.5 : 0, end_s + 0.5] },
    y: { title: "pulse rate (bpm)", range: [middle - reach, middle + reach] }, legend: known.length > 0,
    message: time_s.length && !known.length ? "no pulse found" : "",
  });
  const [x, y] = window ? [window.wave.time_s, window.wave.percent] : [[0, WINDOW_S], [null, null]];
  chart("wave", [{ x, y, mode: "lines", color: RED, text: (i) => `${number(x[i], 2)} s: ${number(y[i], 3)} %` }], {
    x: { title: "time (s)", range: [x[0], x.at(-1)] }, y: { title: "pulse wave (%)" },
    message: window && y.every((v) => v === null) ? "no pulse" : "",
  });
}

// videos

function newFilm() {
  return Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
}

function addEntry(name) {
  const entry = document.createElement("li");
  const [stop, title, bar, said, results] = ["button", "span", "progress", "p", "div"].map((tag) => document.createElement(tag));
  Object.assign(stop, { type: "button", textContent: "Stop", disabled: true });
  title.textContent = name;
  bar.max = 1;
  [said.className, results.className] = ["said", "results"];
  said.setAttribute("role", "status");
  said.textContent = "sending";
  entry.append(stop, title, bar, said, results);
  byId("videos").prepend(entry);
  return { stop, bar, said, results };
}

function fail(entry, text) {
  entry.said.textContent = text;
  entry.said.classList.add("failed");
  entry.bar.remove();
  entry.stop.remove();
}

function fill(entry, status) {
  if (status.state === "failed") return fail(entry, status.error);
  const done = `${Math.round(100 * status.share)} % mapped`;
  entry.said.textContent = {
    waiting: () => waitingFor(status),
    mapping: () => (status.window ? `${done}: ${rateInWords(status.window).join(" ")}` : "mapping"),
    drawing: () => "mapped; now the report is drawn, which takes up to half a minute",
    stopped: () => "stopped",
    done: () => [summaryInWords(status.summary).join(", ").replace(", ", " "), ...status.warnings].join("; "),
  }[status.state]();
  // before and after the mapping it only shows that something happens
  if (status.state === "mapping" && status.share) entry.bar.value = status.share; else entry.bar.removeAttribute("value");
  if (!FINISHED.includes(status.state)) return;
  entry.bar.remove();
  entry.stop.remove();
  if (status.state !== "done") return;
  for (const name of RESULTS) {
    const link = Object.assign(document.createElement("a"), { href: `results/${status.number}/${name}`, textContent: name });
    if (name === "report.html") link.target = "_blank"; else link.download = name;
    entry.results.append(link);
  }
}

async function mapFile(file) {
  complain("");
  const entry = addEntry(file.name);
  const film = newFilm();
  let status = null;
  try {
    if (file.size > MAX_MB * 1e6) {
      throw new Error(`${file.name}: ${Math.round(file.size / 1e6)} MB, but at most ${MAX_MB} MB are taken; cut it, or start with a larger --max_mb`);
    }
    await file.slice(0, 1).arrayBuffer().catch(() => {
      throw new Error(`${file.name}: cannot be read; is it a folder?`);
    });
    film.src = URL.createObjectURL(file);
    status = await post(`uploads?name=${encodeURIComponent(file.name)}`, file);
    unfinished.add(status.number);
    entry.stop.disabled = false;
    entry.stop.addEventListener("click", () => post(`jobs/${status.number}/stop`).catch((error) => complain(error.message)));
    let staged = false;
    for (;;) {
      // the video whose turn it is goes on the stage
      if (status.window && !staged) {
        putOnStage(film);
        staged = true;
      }
      fill(entry, status);
      show(film, status);
      if (FINISHED.includes(status.state)) return;
      await pause(POLL_MS);
      status = await ask(`jobs/${status.number}`);
    }
  } catch (error) {
    fail(entry, error.message);
  } finally {
    unfinished.delete(status?.number);
  }
}

// the webcam

async function startWebcam() {
  complain("");
  if (!navigator.mediaDevices || !("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
    throw new Error("This browser does not let a page read webcam frames; use one from 2025 or later.");
  }
  const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    throw new Error(`The webcam cannot be used (${error.message}). Is there one, and may this page use it?`);
  }
  const film = newFilm();
  film.srcObject = stream;
  try {
    await openSession(stream, film);
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    throw error;
  }
}

async function openSession(stream, film) {
  await film.play();
  const scale = Math.min(1, SIDE_PX / Math.max(film.videoWidth, film.videoHeight));
  const [width, height] = [film.videoWidth, film.videoHeight].map((v) => Math.max(1, Math.round(scale * v)));
  const { number: job } = await post(`webcams?width=${width}&height=${height}`);
  session = { job, stream, film, batch: [] };
  putOnStage(film);
  headline(["…", "starting"]);
  takeFrames(session, width, height);
  sendFrames(session);
}

// Frames as the network's program takes them: the time in seconds, then the pixels.
function takeFrames(current, width, height) {
  const { film, batch } = current;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const take = (now, { captureTime }) => {
    if (session !== current) return;
    context.drawImage(film, 0, 0, width, height);
    const time = new DataView(new ArrayBuffer(8));
    time.setFloat64(0, (captureTime ?? now) / 1000, true);
    batch.push([time, context.getImageData(0, 0, width, height).data]);
    if (batch.length > MOST_FRAMES) batch.shift();
    film.requestVideoFrameCallback(take);
  };
  film.requestVideoFrameCallback(take);
}

async function sendFrames(current) {
  let started = null;
  try {
    while (session === current) {
      await pause(SEND_MS);
      if (!current.batch.length) continue;
      const status = await post(`webcams/${current.job}`, new Blob(current.batch.splice(0).flat()));
      if (session !== current) return;
      if (status.state === "failed") throw new Error(status.error);
      if (FINISHED.includes(status.state)) throw new Error("The webcam was stopped, as no frames came for a while.");
      show(current.film, status);
      if (status.state === "waiting") {
        headline(["…", waitingFor(status)]);
      } else if (!status.window) {
        started ??= performance.now();
        headline(["…", `looking: ${Math.round((performance.now() - started) / 1000)} s of about ${WINDOW_S + 4}`]);
      }
    }
  } catch (error) {
    complain(error.message);
    stopWebcam();
  }
}

function stopWebcam() {
  if (!session) return;
  const { job, stream, film } = session;
  session = null;
  film.pause();
  stream.getTracks().forEach((track) => track.stop());
  navigator.sendBeacon(`jobs/${job}/stop`);
  showWebcam();
}

function showWebcam() {
  byId("webcam").textContent = session ? "Stop the webcam" : "Use the webcam";
  byId("webcam").setAttribute("aria-pressed", String(session !== null));
}

// controls

byId("file").addEventListener("change", ({ target }) => {
  [...target.files].forEach(mapFile);
  target.value = ""; // the same file may be chosen again
});
for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(event, (action) => {
    action.preventDefault();
    byId("drop").classList.toggle("over", over);
    if (event === "drop") [...action.dataTransfer.files].forEach(mapFile);
  });
}
byId("webcam").addEventListener("click", async () => {
  if (session) return stopWebcam();
  byId("webcam").disabled = true;
  await startWebcam().catch((error) => complain(error.message));
  byId("webcam").disabled = false;
  showWebcam();
});
// Nobody could come back to what a page that is closed has begun.
window.addEventListener("pagehide", () => {
  stopWebcam();
  unfinished.forEach((job) => navigator.sendBeacon(`jobs/${job}/stop`));
});

// What an earlier page of this program has mapped.
async function listEarlier() {
  const { done } = await ask("jobs");
  done.forEach((status) => fill(addEntry(status.name), status));
}

drawBar();
listEarlier().catch((error) => complain(error.message));
drawCharts({ rates: [], window: null });
drawStage();
document.body.dataset.ready = "yes";
