/** Where the spots of a slide lie, in an order that is quick to cut and to search. */

import { contains } from "./geometry.js";

const PER_CELL = 24; // spots in a cell of the grid: few enough to search, many enough to skip
const MOST_CELLS_A_SIDE = 4096;

/** Spots sorted by the cells of a grid; `order[k]` is the index of the k-th of them. */
export class Spots {
  /**
   * @param {Float32Array} xy x, y of each spot, level-0 px; spots without a finite place are kept
   *   out of the grid and never drawn
   * @param {{diameter: number, shape: "circle" | "square"}} look
   */
  constructor(xy, { diameter, shape }) {
    this.n = xy.length / 2;
    this.xy = xy;
    this.radius = diameter / 2;
    this.shape = shape;
    this.bounds = boundsOf(xy);
    this.#sort();
  }

  #sort() {
    const { left, top, right, bottom } = this.bounds;
    const [width, height] = [Math.max(right - left, 1), Math.max(bottom - top, 1)];
    const wished = Math.sqrt((width * height * PER_CELL) / Math.max(this.n, 1));
    this.cell = Math.max(wished, Math.max(width, height) / MOST_CELLS_A_SIDE);
    this.columns = Math.floor(width / this.cell) + 1;
    this.rows = Math.floor(height / this.cell) + 1;
    const cells = this.columns * this.rows;
    const starts = new Uint32Array(cells + 1);
    const cellOf = new Int32Array(this.n);
    let placed = 0;
    for (let i = 0; i < this.n; i++) {
      const [x, y] = [this.xy[2 * i], this.xy[2 * i + 1]];
      cellOf[i] = Number.isFinite(x + y) ? this.#row(y) * this.columns + this.#column(x) : -1;
      if (cellOf[i] < 0) continue;
      starts[cellOf[i] + 1]++;
      placed++;
    }
    for (let c = 0; c < cells; c++) starts[c + 1] += starts[c];
    this.starts = starts;
    this.placed = placed;
    this.#fill(cellOf, starts.slice());
  }

  #fill(cellOf, next) {
    this.order = new Uint32Array(this.placed);
    this.xs = new Float32Array(this.placed);
    this.ys = new Float32Array(this.placed);
    for (let i = 0; i < this.n; i++) {
      if (cellOf[i] < 0) continue;
      const k = next[cellOf[i]]++;
      this.order[k] = i;
      this.xs[k] = this.xy[2 * i];
      this.ys[k] = this.xy[2 * i + 1];
    }
  }

  #column(x) {
    return clamp(Math.floor((x - this.bounds.left) / this.cell), this.columns - 1);
  }

  #row(y) {
    return clamp(Math.floor((y - this.bounds.top) / this.cell), this.rows - 1);
  }

  /** Place of a spot, level-0 px. */
  at(index) {
    return [this.xy[2 * index], this.xy[2 * index + 1]];
  }

  /** Values given by index, in the order of the grid. */
  sorted(values) {
    const out = new values.constructor(this.placed);
    for (let k = 0; k < this.placed; k++) out[k] = values[this.order[k]];
    return out;
  }

  /**
   * Stretches [from, to) of sorted spots whose cells touch a box: pairs in one flat array.
   * A stretch may hold spots outside of the box.
   */
  stretches({ left, top, right, bottom }) {
    const out = [];
    const b = this.bounds;
    if (!this.placed || right < b.left || left > b.right || bottom < b.top || top > b.bottom) return out;
    const [c0, c1] = [this.#column(left), this.#column(right)];
    for (let row = this.#row(top); row <= this.#row(bottom); row++) {
      const from = this.starts[row * this.columns + c0];
      const to = this.starts[row * this.columns + c1 + 1];
      if (to === from) continue;
      if (out.length && out[out.length - 1] === from) out[out.length - 1] = to;
      else out.push(from, to);
    }
    return out;
  }

  /** Index of the spot whose centre is nearest to a point and at most `reach` away, or null. */
  nearest(x, y, reach) {
    let best = null;
    let least = reach * reach;
    const box = { left: x - reach, top: y - reach, right: x + reach, bottom: y + reach };
    const runs = this.stretches(box);
    for (let s = 0; s < runs.length; s += 2) {
      for (let k = runs[s]; k < runs[s + 1]; k++) {
        const distance2 = (this.xs[k] - x) ** 2 + (this.ys[k] - y) ** 2;
        if (distance2 > least) continue;
        least = distance2;
        best = this.order[k];
      }
    }
    return best;
  }

  /**
   * Which spots have their centre in a polygon.
   * @param {number[][]} polygon
   * @returns {{mask: Uint8Array, count: number}} the mask is in the order of the grid
   */
  inside(polygon) {
    const mask = new Uint8Array(this.placed);
    const edge = this.#cellsOfOutline(polygon);
    let count = 0;
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) {
        const c = row * this.columns + column;
        const [from, to] = [this.starts[c], this.starts[c + 1]];
        if (from === to) continue;
        // a cell that no edge crosses is all in or all out
        const whole = edge[c] ? null : contains(this.xs[from], this.ys[from], polygon);
        for (let k = from; k < to; k++) {
          mask[k] = (whole ?? contains(this.xs[k], this.ys[k], polygon)) ? 1 : 0;
          count += mask[k];
        }
      }
    }
    return { mask, count };
  }

  /** Cells that an edge of the polygon may cross (a cell too many does no harm). */
  #cellsOfOutline(polygon) {
    const touched = new Uint8Array(this.columns * this.rows);
    polygon.forEach(([x1, y1], i) => {
      const [x0, y0] = polygon[(i || polygon.length) - 1];
      const [r0, r1] = [this.#row(Math.min(y0, y1)), this.#row(Math.max(y0, y1))];
      for (let row = Math.max(r0 - 1, 0); row <= Math.min(r1 + 1, this.rows - 1); row++) {
        const span = spanInRow(x0, y0, x1, y1, this.bounds.top + row * this.cell, this.cell);
        const c0 = Math.max(this.#column(span[0]) - 1, 0);
        const c1 = Math.min(this.#column(span[1]) + 1, this.columns - 1);
        touched.fill(1, row * this.columns + c0, row * this.columns + c1 + 1);
      }
    });
    return touched;
  }
}

/** Least and greatest x of a segment between y = top and y = top + height, both widened a little. */
function spanInRow(x0, y0, x1, y1, top, height) {
  const low = Math.min(x0, x1);
  const high = Math.max(x0, x1);
  if (Math.abs(y1 - y0) < 1e-9) return [low, high];
  const xAt = (y) => Math.min(high, Math.max(low, x0 + ((y - y0) / (y1 - y0)) * (x1 - x0)));
  const ends = [xAt(top - height * 0.01), xAt(top + height * 1.01)];
  return [Math.min(...ends), Math.max(...ends)];
}

function clamp(value, most) {
  return value < 0 ? 0 : value > most ? most : value;
}

function boundsOf(xy) {
  const bounds = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (let i = 0; i < xy.length; i += 2) {
    const [x, y] = [xy[i], xy[i + 1]];
    if (!Number.isFinite(x + y)) continue;
    if (x < bounds.left) bounds.left = x;
    if (x > bounds.right) bounds.right = x;
    if (y < bounds.top) bounds.top = y;
    if (y > bounds.bottom) bounds.bottom = y;
  }
  return bounds.right < bounds.left ? { left: 0, top: 0, right: 1, bottom: 1 } : bounds;
}
