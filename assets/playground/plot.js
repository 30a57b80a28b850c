// What demos in the plane draw: a heat map with points, and curves.
import { colour } from "./ui.js";

/** Colours whose lightness rises evenly, from dark violet to light yellow. */
export const TABLE = Array.from({ length: 256 }, (_, i) => {
  const u = i / 255;
  return oklch(0.25 + 0.68 * u, 0.11 + 0.03 * Math.sin(Math.PI * u), 305 - 200 * u);
});

/** OKLCH (Ottosson, 2020) to 8-bit sRGB; hue in degrees. */
export function oklch(l, c, hue) {
  const a = c * Math.cos((hue * Math.PI) / 180);
  const b = c * Math.sin((hue * Math.PI) / 180);
  const x = (l + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const y = (l - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const z = (l - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * x - 3.3077115913 * y + 0.2309699292 * z,
    -1.2684380046 * x + 2.6097574011 * y - 0.3413193965 * z,
    -0.0041960863 * x - 0.7034186147 * y + 1.707614701 * z,
  ];
  return linear.map((v) => {
    const w = Math.min(1, Math.max(0, v));
    return Math.round(255 * (w <= 0.0031308 ? 12.92 * w : 1.055 * w ** (1 / 2.4) - 0.055));
  });
}

/** The colour table as a CSS background. */
export function gradient() {
  const stops = [0, 51, 102, 153, 204, 255].map((i) => `rgb(${TABLE[i].join(" ")})`);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

/** Fills a square canvas with the verdicts D, a lattice of side x side. */
export function heatMap(canvas, verdicts, side) {
  shade(canvas, verdicts, side);
  contour(canvas.getContext("2d"), verdicts, side, canvas.width / side);
}

/** Fills a square canvas with the colours of a lattice of numbers from 0 to 1. */
export function shade(canvas, values, side) {
  const small = new OffscreenCanvas(side, side);
  const image = new ImageData(side, side);
  values.forEach((v, i) => image.data.set([...TABLE[Math.round(255 * v)], 255], 4 * i));
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** The line D = 1/2, white on black, by marching through the squares of the lattice. */
function contour(context, d, side, unit) {
  context.beginPath();
  for (let row = 0; row < side - 1; row++) {
    for (let column = 0; column < side - 1; column++) {
      const k = row * side + column;
      const corners = [
        [k, 0, 0],
        [k + 1, 1, 0],
        [k + side + 1, 1, 1],
        [k + side, 0, 1],
      ];
      const cuts = [];
      corners.forEach(([i, x, y], c) => {
        const [j, u, v] = corners[(c + 1) % 4];
        if (d[i] < 0.5 === d[j] < 0.5) return;
        const t = (0.5 - d[i]) / (d[j] - d[i]);
        cuts.push([column + 0.5 + x + t * (u - x), row + 0.5 + y + t * (v - y)]);
      });
      cuts.forEach(([x, y], i) => context[i % 2 ? "lineTo" : "moveTo"](x * unit, y * unit));
    }
  }
  stroke(context, 4, "black");
  stroke(context, 2, "white");
}

function stroke(context, width, style) {
  context.lineWidth = width;
  context.strokeStyle = style;
  context.stroke();
}

/** Real points as rings, generated ones as crosses; [-limit, limit] fills the canvas. */
export function points(canvas, xy, limit, mark) {
  const context = canvas.getContext("2d");
  const unit = canvas.width / (2 * limit);
  context.beginPath();
  for (let i = 0; i < xy.length; i += 2) {
    const [x, y] = [(xy[i] + limit) * unit, (limit - xy[i + 1]) * unit];
    if (mark === "ring") {
      context.moveTo(x + 3, y);
      context.arc(x, y, 3, 0, 2 * Math.PI);
    } else {
      context.moveTo(x - 4, y - 4);
      context.lineTo(x + 4, y + 4);
      context.moveTo(x + 4, y - 4);
      context.lineTo(x - 4, y + 4);
    }
  }
  stroke(context, mark === "ring" ? 3 : 4, "black");
  stroke(context, mark === "ring" ? 1.2 : 1.8, mark === "ring" ? "white" : "#ffb000");
}

/** Two curves, `series` of [values, dash], and a dotted line at `level`. */
export function curves(canvas, series, level) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const all = series.flatMap(([values]) => values.filter(Number.isFinite)).concat(0, 1.6);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const y = (v) => height - 8 - ((height - 16) * (v - low)) / (high - low);
  context.clearRect(0, 0, width, height);
  context.font = "22px sans-serif";
  context.fillStyle = colour(canvas, "--pst-color-text-base");
  const ink = context.fillStyle;
  line(
    context,
    [
      [0, y(level)],
      [width, y(level)],
    ],
    [2, 6],
    ink,
    1.5,
  );
  line(
    context,
    [
      [0, y(0)],
      [width, y(0)],
    ],
    [],
    colour(canvas, "--pst-color-border"),
    1.5,
  );
  context.fillText("2 log 2", 4, y(level) - 6);
  context.fillText("0", 4, y(0) - 6);
  for (const [values, dash, name] of series) {
    const x = (i) => (width * i) / Math.max(1, values.length - 1);
    line(
      context,
      values.map((v, i) => [x(i), y(v)]),
      dash,
      colour(canvas, name),
      2,
    );
  }
}

function line(context, path, dash, style, width) {
  context.setLineDash(dash);
  context.beginPath();
  path.forEach(([x, y]) => context.lineTo(x, y));
  stroke(context, width, style);
  context.setLineDash([]);
}
