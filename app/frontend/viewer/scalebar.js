/** A bar of a round length. */

import { niceBelow } from "./geometry.js";
import { el } from "./dom.js";

const MOST_PX = 150;

/**
 * Length of the bar for a zoom.
 * @param {number} scale screen px per level-0 px
 * @param {number | null} mpp um per level-0 px
 * @returns {{width: number, text: string}} width in screen px
 */
export function barFor(scale, mpp) {
  const perPx = (mpp ?? 1) / scale; // um or level-0 px per screen px
  const length = niceBelow(MOST_PX * perPx);
  return { width: length / perPx, text: mpp ? micronText(length) : `${plain(length)} px` };
}

function micronText(length) {
  return length >= 1000 ? `${plain(length / 1000)} mm` : `${plain(length)} µm`;
}

function plain(number) {
  return Number(number.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });
}

/** The bar as an element. */
export class ScaleBar {
  constructor() {
    this.line = el("div", { class: "si-bar-line" });
    this.text = el("div", { class: "si-bar-text" });
    this.element = el("div", { class: "si-bar", role: "img" }, this.text, this.line);
  }

  show(scale, mpp) {
    const { width, text } = barFor(scale, mpp);
    this.line.style.width = `${width}px`;
    if (this.text.textContent === text) return;
    this.text.textContent = text;
    this.element.setAttribute("aria-label", `Scale bar: ${text}`);
  }
}
