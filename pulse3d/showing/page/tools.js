"use strict";
// What the page needs beside charts: its data, numbers and tables as text, files for those who look.

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

// The wave of a place in percent, null where it is unknown; null if the page has none. Stored are steps modulo 256.
function placeWave(data, place) {
  const { places, largest_percent } = data.wave_places;
  const row = places.indexOf(place);
  if (row < 0) return null;
  const length = data.wave.time_s.length;
  let sum = 0;
  return Array.from(data.place_waves.subarray(row * length, (row + 1) * length), (stepped) => {
    sum = (sum + stepped) % 256;
    return sum === NONE ? null : largest_percent[row] * (sum / 127 - 1);
  });
}

// Where a colour bar is labelled: at its limits, and at round values between.
function barTicks({ low, high }, digits, inner) {
  const room = 0.14 * (high - low);
  const between = inner ? inner.map((v) => [v, number(v, digits)]) : ticks(low, high, 4);
  return [
    [low, number(low, digits)],
    ...between.filter(([v]) => v - low > room && high - v > room),
    [high, number(high, digits)],
  ];
}

// A table as CSV: {name: values}; an empty cell for null.
function asCsv(columns) {
  const rows = Object.values(columns)[0].map((_, i) => Object.values(columns).map((values) => values[i] ?? ""));
  return [Object.keys(columns), ...rows].map((cells) => cells.join(",")).join("\n") + "\n";
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Rows of cells into a table's body; the first cell of a row is its heading.
function fillTable(id, rows) {
  for (const [heading, ...values] of rows) {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { textContent: heading, scope: "row" }));
    row.append(...values.map((value) => Object.assign(document.createElement("td"), { textContent: value })));
    byId(id).append(row);
  }
}

// A part of a picture, magnified: x, y of its corner in px of the picture, and how many times.
class View {
  constructor(width, height) { Object.assign(this, { width, height, times: 1, x: 0, y: 0 }); }

  move(x, y) {
    this.x = Math.max(0, Math.min(this.width * (1 - 1 / this.times), x));
    this.y = Math.max(0, Math.min(this.height * (1 - 1 / this.times), y));
  }

  // Magnifies by a factor; the point x, y of the picture stays where it is.
  zoom(factor, x, y) {
    const before = this.times;
    this.times = Math.max(1, Math.min(12, before * factor));
    this.move(x - ((x - this.x) * before) / this.times, y - ((y - this.y) * before) / this.times);
  }

  // Moves as far as needed to have a point in view.
  show(x, y) {
    const [w, h] = [this.width / this.times, this.height / this.times];
    if (x < this.x || x > this.x + w || y < this.y || y > this.y + h) this.move(x - w / 2, y - h / 2);
  }
}
