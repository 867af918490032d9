/** What the colours mean, and the range that they span. */

import { canHideZeros, categoryColour, colourMap, css } from "./colours.js";
import { el } from "./dom.js";

const MOST_CATEGORIES = 20;
const STEPS = 400; // of the range slider

/** A value in few digits. */
export function valueText(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(3)));
}

/** The legend as an element; `on.range({low, high} | null)` and `on.zeros(bool)` are the user's acts. */
export class Legend {
  constructor(on) {
    this.on = on;
    this.element = el("div", { class: "si-legend", role: "group", "aria-label": "Legend" });
    this.element.hidden = true;
  }

  /**
   * @param {object | null} layer meta, range and zeros; null hides the legend
   */
  show(layer) {
    this.element.hidden = !layer;
    this.element.replaceChildren();
    this.layer = layer;
    if (!layer) return;
    const { meta } = layer;
    const unit = meta.unit ? el("span", { class: "si-unit", text: meta.unit }) : null;
    this.element.append(el("div", { class: "si-legend-name" }, el("strong", { text: meta.name }), unit));
    if (meta.kind === "categories") this.#categories(meta.categories || []);
    else this.#continuous(layer);
    if (meta.note) this.element.append(el("div", { class: "si-note", text: meta.note }));
  }

  #categories(names) {
    const list = el("ul", { class: "si-categories" });
    names.slice(0, MOST_CATEGORIES).forEach((name, i) => {
      const swatch = el("span", { class: "si-swatch" });
      swatch.style.background = css(categoryColour(i));
      list.append(el("li", {}, swatch, el("span", { class: "si-category", text: name, title: name })));
    });
    this.element.append(list);
    const more = names.length - MOST_CATEGORIES;
    if (more > 0) this.element.append(el("div", { class: "si-more", text: `and ${more} more` }));
  }

  #continuous(layer) {
    const { meta, palette } = layer;
    this.strip = el("div", { class: "si-gradient" });
    const colours = colourMap(palette);
    const stops = Array.from({ length: 17 }, (_, i) => css(colours[Math.round((i * 255) / 16)]));
    this.strip.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    this.handles = ["low", "high"].map((end) => this.#handle(end, meta));
    this.numbers = ["low", "high"].map((end) => this.#number(end));
    const range = el("div", { class: "si-range" }, this.strip, ...this.handles);
    const reset = el("button", { type: "button", class: "si-link", text: "reset", title: "Reset the range" });
    reset.addEventListener("click", () => this.on.range(null));
    const [low, high] = this.numbers;
    this.element.append(range, el("div", { class: "si-numbers" }, low, reset, high));
    if (canHideZeros(meta)) this.element.append(this.#zeros(layer));
    this.mark(layer.range);
  }

  #handle(end, meta) {
    const step = (meta.high - meta.low) / STEPS || 1;
    const label = `${end === "low" ? "Lowest" : "Highest"} colour at`;
    const input = el("input", { type: "range", class: "si-handle", "aria-label": label });
    Object.assign(input, { min: meta.low, max: meta.high, step: "any" });
    input.addEventListener("input", () => this.#ask(end, Number(input.value)));
    input.addEventListener("keydown", (event) => {
      const way = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!way) return;
      event.preventDefault(); // a step of "any" leaves arrow keys with steps of one
      this.#ask(end, Number(input.value) + way * step);
    });
    return input;
  }

  #number(end) {
    const label = `${end === "low" ? "Lowest" : "Highest"} value of the colours`;
    const input = el("input", { type: "text", inputmode: "decimal", class: "si-number", "aria-label": label });
    input.addEventListener("change", () => {
      const value = Number(input.value.replace(",", "."));
      if (input.value.trim() !== "" && Number.isFinite(value)) this.#ask(end, value);
      else this.mark(this.layer.range);
    });
    return input;
  }

  #zeros({ zeros }) {
    const box = el("input", { type: "checkbox" });
    box.checked = zeros;
    box.addEventListener("change", () => this.on.zeros(box.checked));
    return el("label", { class: "si-zeros" }, box, el("span", { text: "show zeros" }));
  }

  #ask(end, wished) {
    const { meta, range } = this.layer;
    const value = Math.min(Math.max(wished, meta.low), meta.high);
    const next = { ...range, [end]: value };
    if (next.low > next.high) next[end === "low" ? "high" : "low"] = value;
    this.on.range(next);
  }

  /** Show a range on the slider and in numbers. */
  mark(range) {
    this.layer.range = range;
    ["low", "high"].forEach((end, i) => {
      this.handles[i].value = range[end];
      this.handles[i].setAttribute("aria-valuetext", valueText(range[end]));
      this.numbers[i].value = valueText(range[end]);
    });
    const { low, high } = this.layer.meta;
    const share = (value) => (high > low ? Math.min(Math.max((100 * (value - low)) / (high - low), 0), 100) : 0);
    this.strip.style.left = `${share(range.low)}%`;
    this.strip.style.width = `${Math.max(share(range.high) - share(range.low), 1)}%`;
  }
}
