"use strict";
// The layers of the map, and what is drawn on it.

// What the map can show: value of a place in the window that is shown, and how it is said. at(name, place): a stored
// value, placeRate(place): the rate of a place, consensus(): that of the window.
function makeLayers(data, { at, placeRate, consensus }) {
  const scaled = (name) => (place) => {
    const value = at(name, place);
    const { low, high } = data.scales[name];
    return value === NONE ? null : low + ((high - low) * value) / 254;
  };
  // fades: whether the confidence may be its opacity
  return {
    rate: {
      title: "pulse rate", unit: "bpm", digits: 0, value: placeRate, fades: true,
      note: "The most likely rate of every place.",
    },
    confidence: {
      title: "confidence", unit: "(0 to 1)", digits: 2, value: (p) => at("confidence", p) / 255,
      note: "How sure every place is of its rate.",
    },
    deviation: {
      title: "deviation", unit: "bpm", digits: 0, fades: true,
      value: (p) => (placeRate(p) !== null && consensus() !== null ? placeRate(p) - consensus() : null),
      note: "The rate of every place minus the pulse rate of this window. Red: faster, blue: slower.",
    },
    amplitude: {
      title: "amplitude", unit: "% of the mean of green", digits: 2, value: scaled("amplitude"),
      note: "How strongly every place changes at the frame's pulse rate. Not a map of perfusion: light, motion and noise are in it.",
    },
    snr: {
      title: "SNR", unit: "dB", digits: 1, value: scaled("snr"),
      note: "Power at the frame's pulse rate and its double against the rest, 36 to 198 bpm.",
    },
    phase: {
      title: "phase", unit: "degrees", digits: 0, value: scaled("phase"), ticks: [-90, 0, 90],
      note: "How much later (positive) or earlier a place beats than the frame's pulse wave, of places with its rate." +
        " Motion and light shift phases, too.",
    },
  };
}

// The numbers of several regions, so many px of the frame large.
function drawNumbers(context, regions, size) {
  if (regions.length < 2) return;
  context.font = `${size}px sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { region, col_px, row_px } of regions) {
    context.fillStyle = "#000a";
    context.beginPath();
    context.arc(col_px, row_px, 0.8 * size, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = "#fff";
    context.fillText(region, col_px, row_px);
  }
}

function drawOutline(context, rectangle, colour, width) {
  for (const [wide, style] of [[2 * width, "#000"], [width, colour]]) {
    context.lineWidth = wide;
    context.strokeStyle = style;
    context.strokeRect(...rectangle);
  }
}

// The map as it is seen, with its colour bar and what it is. ticks: as in barTicks, of a scale {low, high}.
function mapPicture(map, bar, { low, high }, ticks, label, line) {
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [Math.max(map.width, 900), map.height + 110];
  const pen = picture.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, picture.width, picture.height);
  pen.drawImage(map, 0, 0);
  const y = map.height + 14;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(bar, 40, y, 500, 22);
  pen.fillStyle = "#000";
  pen.font = "20px sans-serif";
  pen.fillText(label, 570, y + 18);
  pen.fillText(line, 20, y + 84);
  pen.textAlign = "center";
  for (const [v, text] of ticks) pen.fillText(text, 40 + (500 * (v - low)) / (high - low), y + 46);
  return picture;
}
