/** A card beside the spot under the pointer. */

import { el, later } from "./dom.js";

const WAIT_MS = 90;
const MOST_KEPT = 500;
const MARGIN = 12;

export class HoverCard {
  #cards = new Map();

  /**
   * @param {(index: number) => Promise<{spot_id: string, values: {name: string, text: string}[]}>} load
   * @param {(index: number) => {name: string, text: string} | null} shown value that is drawn now
   */
  constructor(load, shown) {
    this.load = load;
    this.shown = shown;
    this.index = null;
    this.element = el("div", { class: "si-card" });
    this.element.hidden = true;
    this.timer = later(() => this.#open(), WAIT_MS);
  }

  /**
   * The pointer is on a spot, or on none (null).
   * @param {number | null} index
   * @param {() => [number, number]} place of the spot on the stage, px
   */
  point(index, place) {
    if (index === this.index) return;
    this.index = index;
    this.place = place;
    this.element.hidden = true;
    this.timer.stop();
    if (index !== null) this.timer.ask();
  }

  /** Forget what was loaded: another slide, or another layer. */
  forget() {
    this.#cards.clear();
    this.point(null);
  }

  async #open() {
    const { index } = this;
    if (!this.#cards.has(index)) {
      if (this.#cards.size >= MOST_KEPT) this.#cards.delete(this.#cards.keys().next().value);
      this.#cards.set(index, this.load(index));
    }
    const cards = this.#cards;
    try {
      const card = await cards.get(index);
      if (this.index === index) this.#show(card);
    } catch {
      cards.delete(index); // asked again the next time
      if (this.index === index) this.#show({ spot_id: `Spot ${index}`, values: [] });
    }
  }

  #show({ spot_id, values }) {
    const shown = this.shown(this.index);
    const rows = (values || []).filter(({ name }) => name !== shown?.name);
    if (shown) rows.unshift(shown);
    this.element.replaceChildren(el("div", { class: "si-card-name", text: String(spot_id) }));
    for (const { name, text } of rows) {
      this.element.append(el("div", { class: "si-card-row" }, el("span", { text: name }), el("b", { text })));
    }
    this.element.hidden = false;
    this.#put();
  }

  #put() {
    const [x, y] = this.place();
    const { offsetWidth: width, offsetHeight: height, offsetParent } = this.element;
    const right = x + MARGIN + width <= (offsetParent?.clientWidth ?? Infinity);
    const below = y + MARGIN + height <= (offsetParent?.clientHeight ?? Infinity);
    this.element.style.left = `${Math.max(right ? x + MARGIN : x - MARGIN - width, 0)}px`;
    this.element.style.top = `${Math.max(below ? y + MARGIN : y - MARGIN - height, 0)}px`;
  }

  destroy() {
    this.timer.stop();
    this.element.remove();
  }
}
