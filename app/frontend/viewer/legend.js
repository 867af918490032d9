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

/** The legend in a figure, its lower right corner at (x, y). */
export function drawLegend(context, layer, x, y) {
  const { meta } = layer;
  const categories = meta.kind === "categories" ? (meta.categories || []).slice(0, MOST_CATEGORIES) : null;
  const more = categories ? meta.categories.length - categories.length : 0;
  const rows = categories ? categories.length + (more > 0 ? 1 : 0) : 1.8; // the gradient and its numbers
  const [width, height] = [230, 24 + rows * 17 + (meta.note ? 18 : 0) + 6];
  context.save();
  context.translate(x - width, y - height);
  context.fillStyle = "rgba(255, 255, 255, 0.92)";
  context.fillRect(0, 0, width, height);
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = "#10202c";
  context.font = "600 12px system-ui, sans-serif";
  context.fillText([meta.name, meta.unit].filter(Boolean).join("  "), 10, 14, width - 20);
  context.font = "12px system-ui, sans-serif";
  if (categories) drawCategories(context, categories, more, width);
  else drawGradient(context, layer, width);
  if (meta.note) {
    context.fillStyle = "#5b6b76";
    context.fillText(meta.note, 10, height - 14, width - 20);
  }
  context.restore();
}

function drawCategories(context, names, more, width) {
  names.forEach((name, i) => {
    context.fillStyle = css(categoryColour(i));
    context.fillRect(10, 27 + 17 * i, 11, 11);
    context.fillStyle = "#10202c";
    context.fillText(name, 27, 33 + 17 * i, width - 37);
  });
  if (more > 0) context.fillText(`and ${more} more`, 10, 33 + 17 * names.length);
}

function drawGradient(context, { palette, range }, width) {
  const colours = colourMap(palette);
  for (let i = 0; i < 256; i++) {
    context.fillStyle = css(colours[i]);
    context.fillRect(10 + ((width - 20) * i) / 256, 26, (width - 20) / 256 + 0.6, 12);
  }
  context.fillStyle = "#10202c";
  context.fillText(valueText(range.low), 10, 48);
  context.textAlign = "right";
  context.fillText(valueText(range.high), width - 10, 48);
  context.textAlign = "left";
}
