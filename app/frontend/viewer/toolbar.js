/** Buttons and sliders above the slide. */

import { el, icon } from "./dom.js";

const ICONS = {
  pan: ["M8 1.5v13M1.5 8h13M6 3.5 8 1.5l2 2M6 12.5l2 2 2-2M3.5 6l-2 2 2 2M12.5 6l2 2-2 2"],
  lasso: ["M8 2.5c3.6 0 6.2 1.7 6.2 4s-2.6 4-6.2 4-6.2-1.7-6.2-4 2.6-4 6.2-4Z", "M5 10c-1.6.6-2 2.6-.6 3.2S7 12 5 10Z"],
  box: ["M2.5 3.5h11v9h-11Z"],
  clear: ["M3.5 3.5l9 9M12.5 3.5l-9 9"],
  fit: ["M2 5.5V2h3.5M10.5 2H14v3.5M14 10.5V14h-3.5M5.5 14H2v-3.5"],
  help: ["M5.6 5.8c0-3.2 5-3 5-.2C10.600 7.600 8 7.500 8 9.600", "M8 12.300v.4"],
};
const TOOLS = { pan: ["Pan", "V"], lasso: ["Lasso", "L"], box: ["Box", "B"] };

export class Toolbar {
  /**
   * @param {object} act `tool(name)`, `clear()`, `fit()`, `help()`, `spotOpacity(0..1)`, `imageOpacity(0..1)`
   */
  constructor(act) {
    this.tools = {};
    const left = el("div", { class: "si-buttons" });
    for (const [name, [label, key]] of Object.entries(TOOLS)) {
      this.tools[name] = button(ICONS[name], label, `${label} (${key})`, () => act.tool(name));
      left.append(this.tools[name]);
    }
    this.clear = button(ICONS.clear, "Clear", "Clear the lasso (Esc)", act.clear);
    left.append(this.clear, button(ICONS.fit, "Fit", "Fit the slide (0)", act.fit));
    this.spots = slider("Spots", "Opacity of the spots", act.spotOpacity);
    this.image = slider("Image", "Opacity of the image", act.imageOpacity);
    const help = button(ICONS.help, null, "Keys and mouse", act.help);
    const right = el("div", { class: "si-sliders" }, this.spots.label, this.image.label, help);
    this.element = el("div", { class: "si-toolbar", role: "toolbar", "aria-label": "Slide viewer" }, left, right);
  }

  /** Show the state of the viewer. */
  show({ tool, tools, lasso, spotOpacity, imageOpacity, hasImage }) {
    for (const [name, node] of Object.entries(this.tools)) {
      node.hidden = !tools.includes(name);
      node.setAttribute("aria-pressed", String(name === tool));
    }
    this.clear.hidden = !tools.includes("lasso") && !tools.includes("box");
    this.clear.disabled = !lasso;
    this.spots.input.value = String(Math.round(spotOpacity * 100));
    this.image.input.value = String(Math.round(imageOpacity * 100));
    this.image.label.hidden = !hasImage;
  }
}

function button(paths, label, title, run) {
  const text = label ? el("span", { text: label }) : null;
  const attributes = { type: "button", class: "si-button", title, "aria-label": title, onclick: run };
  return el("button", attributes, icon(paths), text);
}

function slider(text, title, run) {
  const input = el("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": title, title });
  input.addEventListener("input", () => run(Number(input.value) / 100));
  const label = el("label", { class: "si-slider" }, el("span", { text }), input);
  return { input, label };
}
