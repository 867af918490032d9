/** A layer: one value for each spot, as codes, with its colours. */

import { categoryColours, continuousColours, defaultRange, valueOf } from "./colours.js";
import { valueText } from "./legend.js";

export class Layer {
  /**
   * @param {object} wanted
   * @param {string} wanted.name under which the user's range is kept
   * @param {{low: number, high: number}} [wanted.range] to begin with; else the slide's own
   * @param {{buffer: ArrayBuffer, meta: object}} answer uint16 codes, little endian, one a spot
   * @param {Spots} spots
   * @throws {Error} where the number of codes is not the number of spots
   */
  constructor({ name, range }, { buffer, meta }, spots) {
    if (buffer.byteLength !== 2 * spots.n) {
      throw new Error(`${name} has ${buffer.byteLength / 2} values for ${spots.n} spots`);
    }
    this.name = name;
    this.meta = meta;
    this.byIndex = new Uint16Array(buffer);
    this.codes = spots.sorted(this.byIndex);
    this.zeros = false;
    this.usual = meta.kind === "categories" ? null : range || defaultRange(meta);
    this.range = this.usual;
  }

  /** Colours for a range (null: the usual one), a palette, and with or without zeros. */
  paint({ range, palette, zeros }) {
    this.palette = palette;
    this.zeros = zeros;
    if (this.meta.kind === "categories") {
      this.colours = categoryColours((this.meta.categories || []).length);
    } else {
      this.range = range || this.usual;
      this.colours = continuousColours(this.meta, this.range, palette, zeros);
    }
  }

  /** Value of a spot in words. */
  textAt(index) {
    const code = this.byIndex[index];
    const { meta } = this;
    if (meta.kind === "categories") return code ? (meta.categories[code - 1] ?? "–") : "none";
    if (code === 0) return "not measured";
    return [valueText(valueOf(code, meta)), meta.unit].filter(Boolean).join(" ");
  }
}
