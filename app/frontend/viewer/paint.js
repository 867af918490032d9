/** Spots, regions, marks and the lasso of a scene on a canvas: the screen's or a figure's. */

import { NEUTRAL, css } from "./colours.js";
import { Raster } from "./raster.js";

const ARC_FROM = 14; // radius in CSS px from which spots are drawn as shapes with an outline
const MOST_ARCS = 4000;
const OUTSIDE = 0.25; // share of the opacity that is left to spots outside of the lasso
const EMPTY_ALPHA = 0.85; // outline of a small spot without a value, with opacity 1
const EMPTY_DOT_ALPHA = 0.35; // the same where it is only a dot
const INK = "#10202c";
const ACCENT = "#0f6e84";
const HANDLE_GAP = 9; // px between drawn vertices

const MARK_COLOURS = { hit: "#0f6e84", query: "#b4541a", marked: "#2a62a8", annotation: "#10202c" };

/** Colour with alpha of each sorted spot; changes with layer, range, lasso and opacity, not with zoom. */
export function spotColours(model) {
  const { spots, layer, mask, spotOpacity } = model;
  const colours = new Uint32Array(spots.placed);
  const full = Math.round(255 * spotOpacity * (layer ? 1 : EMPTY_ALPHA));
  const [inside, outside] = [full << 24, Math.round(full * OUTSIDE) << 24];
  for (let k = 0; k < colours.length; k++) {
    const colour = layer ? layer.colours[layer.codes[k]] : NEUTRAL;
    if (colour === 0) continue;
    colours[k] = ((colour & 0xffffff) | (mask && !mask[k] ? outside : inside)) >>> 0;
  }
  return colours;
}

/** A drawing of spots that remembers its pixels: only a change of view or colours makes it anew. */
export class SpotPainter {
  constructor() {
    this.raster = new Raster();
    this.drawn = this.shared = 0;
  }

  /**
   * @param {CanvasRenderingContext2D} context of a canvas that may have anything on it
   * @param {object} model
   * @param {{scale, left, top, width, height}} screen in CSS px
   * @param {number} density canvas pixels per CSS px
   * @param {boolean} fresh whether view or colours changed since the last call
   */
  draw(context, model, screen, density, fresh) {
    const { canvas } = context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!model.spots || !model.spotsShown || model.spotOpacity <= 0) {
      this.drawn = this.shared = 0;
      context.clearRect(0, 0, canvas.width, canvas.height);
      return;
    }
    const radius = model.spots.radius * screen.scale;
    const stretches = model.spots.stretches(seen(screen, model.spots.radius + 2 / screen.scale));
    if (radius >= ARC_FROM && spotsIn(stretches) <= MOST_ARCS) {
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.setTransform(density, 0, 0, density, 0, 0);
      this.drawn = drawShapes(context, model, screen, stretches);
      this.shared = 0;
      this.cached = false;
      return;
    }
    if (fresh || !this.cached) this.#write(model, screen, density, canvas, stretches);
    context.putImageData(this.raster.image, 0, 0);
  }

  #write(model, screen, density, canvas, stretches) {
    const { spots, layer, colours } = model;
    this.raster.clear(canvas.width, canvas.height);
    const view = { scale: screen.scale * density, left: screen.left, top: screen.top };
    const scene = { spots, stretches, view, colours, ranks: layer ? layer.codes : null, outline: !layer };
    if (!layer && spots.radius * view.scale < 2) scene.colours = faded(colours);
    Object.assign(this, this.raster.write(scene));
    this.cached = true;
  }
}

function faded(colours) {
  const share = EMPTY_DOT_ALPHA / EMPTY_ALPHA;
  return colours.map((c) => ((c & 0xffffff) | (Math.round((c >>> 24) * share) << 24)) >>> 0);
}

function spotsIn(stretches) {
  let count = 0;
  for (let s = 0; s < stretches.length; s += 2) count += stretches[s + 1] - stretches[s];
  return count;
}

function seen({ scale, left, top, width, height }, margin) {
  return {
    left: left - margin,
    top: top - margin,
    right: left + width / scale + margin,
    bottom: top + height / scale + margin,
  };
}

/** Spots large enough to have an outline; the larger, the more tissue shows through. */
function drawShapes(context, { spots, layer, colours, mask, spotOpacity }, screen, stretches) {
  const radius = spots.radius * screen.scale;
  const fill = 1 - 0.55 * Math.min(1, Math.max(0, (radius - 2 * ARC_FROM) / (3 * ARC_FROM)));
  let drawn = 0;
  for (let s = 0; s < stretches.length; s += 2) {
    for (let k = stretches[s]; k < stretches[s + 1]; k++) {
      if (layer && layer.codes[k] === 0) continue; // not measured
      const x = (spots.xs[k] - screen.left) * screen.scale;
      const y = (spots.ys[k] - screen.top) * screen.scale;
      if (x < -radius || y < -radius || x > screen.width + radius || y > screen.height + radius) continue;
      drawn++;
      context.beginPath();
      if (spots.shape === "square") context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else context.arc(x, y, radius, 0, 2 * Math.PI);
      const alpha = (colours[k] >>> 24) / 255;
      if (layer && colours[k] !== 0) {
        context.fillStyle = css(colours[k], alpha * fill);
        context.fill();
        context.strokeStyle = css(colours[k], Math.min(1, alpha * 1.6));
        context.lineWidth = 2;
      } else {
        context.strokeStyle = css(NEUTRAL, spotOpacity * (mask && !mask[k] ? OUTSIDE : 1));
        context.lineWidth = 1.2;
      }
      context.stroke();
    }
  }
  return drawn;
}

function trace(context, polygon, { scale, left, top }, close = true) {
  context.beginPath();
  polygon.forEach(([x, y], i) => {
    const [sx, sy] = [(x - left) * scale, (y - top) * scale];
    if (i) context.lineTo(sx, sy);
    else context.moveTo(sx, sy);
  });
  if (close) context.closePath();
}

function strokeTwice(context, colour, width) {
  context.strokeStyle = "rgba(255, 255, 255, 0.9)";
  context.lineWidth = width + 2;
  context.stroke();
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

/** Outlines of regions. */
export function drawRegions(context, regions, screen) {
  for (const { polygons, kind } of regions) {
    const colour = MARK_COLOURS[kind] || INK;
    context.setLineDash(kind === "annotation" ? [6, 4] : []);
    for (const polygon of polygons) {
      trace(context, polygon, screen);
      strokeTwice(context, colour, 2);
    }
  }
  context.setLineDash([]);
}

/** Names of regions where there is room: none over another, the first come first. */
export function drawNames(context, regions, screen) {
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "middle";
  const taken = [];
  for (const { name, polygons, kind } of regions) {
    if (!name || !polygons.length) continue;
    const text = name.length > 40 ? `${name.slice(0, 39)}…` : name;
    const place = placeOfName(polygons[0], context.measureText(text).width + 10, screen);
    if (!place || taken.some((other) => overlap(place, other))) continue;
    taken.push(place);
    context.fillStyle = MARK_COLOURS[kind] || INK;
    context.fillRect(place.x, place.y, place.width, place.height);
    context.fillStyle = "#fff";
    context.fillText(text, place.x + 5, place.y + 9);
  }
}

/** Above the middle of a region; nowhere if the region is narrow or out of sight. */
function placeOfName(polygon, width, { scale, left, top, width: seen, height }) {
  const xs = polygon.map(([x]) => (x - left) * scale);
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const y = Math.min(...polygon.map(([, y]) => (y - top) * scale)) - 20;
  const x = (low + high - width) / 2;
  const hidden = x > seen || x + width < 0 || y > height || y + 17 < 0;
  return high - low < 40 || hidden ? null : { x, y, width, height: 17 };
}

function overlap(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** Rings of marks, the picked one wider. */
export function drawMarks(context, marks, picked, spotRadius, screen) {
  const reach = Math.max(spotRadius * screen.scale, 6);
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  marks.forEach(({ x, y, label, kind }, i) => {
    const [sx, sy] = [(x - screen.left) * screen.scale, (y - screen.top) * screen.scale];
    if (sx < -60 || sy < -60 || sx > screen.width + 60 || sy > screen.height + 60) return;
    const colour = MARK_COLOURS[kind] || ACCENT;
    ring(context, sx, sy, reach + 3, colour, i === picked ? 3.5 : 2);
    if (i === picked) ring(context, sx, sy, reach + 9, colour, 1.5);
    if (label && (i === picked || reach > 10)) drawLabel(context, label, sx, sy - reach - (i === picked ? 15 : 8));
  });
}

function drawLabel(context, label, x, y) {
  context.font = "600 12px system-ui, sans-serif";
  context.lineJoin = "round";
  context.strokeStyle = "rgba(255, 255, 255, 0.95)";
  context.lineWidth = 4;
  context.strokeText(label, x, y);
  context.fillStyle = INK;
  context.fillText(label, x, y);
}

function ring(context, x, y, radius, colour, width) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  strokeTwice(context, colour, width);
}

/** A ring about one spot: the selected one, or the one under the pointer. */
export function drawSpotRing(context, spots, index, screen, { colour = INK, width = 2.5 } = {}) {
  const [x, y] = spots.at(index);
  const reach = Math.max(spots.radius * screen.scale, 4) + 2;
  ring(context, (x - screen.left) * screen.scale, (y - screen.top) * screen.scale, reach, colour, width);
}

/** The lasso; `open` while it is being drawn. */
export function drawLasso(context, polygon, screen, { open = false } = {}) {
  trace(context, polygon, screen, !open);
  if (!open) {
    context.fillStyle = "rgba(15, 110, 132, 0.06)";
    context.fill();
  }
  strokeTwice(context, ACCENT, 2);
}

/** Vertices that are far enough apart on the screen to be taken hold of. */
export function handles(polygon, { scale, left, top }) {
  const out = [];
  let last = null;
  polygon.forEach(([x, y], vertex) => {
    const at = [(x - left) * scale, (y - top) * scale];
    if (last && Math.hypot(at[0] - last[0], at[1] - last[1]) < HANDLE_GAP) return;
    last = at;
    out.push({ vertex, x: at[0], y: at[1] });
  });
  return out;
}

export function drawHandles(context, polygon, screen, held) {
  for (const { vertex, x, y } of handles(polygon, screen)) {
    const half = vertex === held ? 5 : 3.5;
    context.fillStyle = vertex === held ? ACCENT : "#fff";
    context.strokeStyle = ACCENT;
    context.lineWidth = 1.5;
    context.fillRect(x - half, y - half, 2 * half, 2 * half);
    context.strokeRect(x - half, y - half, 2 * half, 2 * half);
  }
}
