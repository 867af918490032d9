/** Small helpers to build elements. Text is only ever set as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 * @param {string} tag
 * @param {Object<string, any>} attributes `text` is set as textContent, functions are listened with
 *   (`onclick: f` is addEventListener("click", f)), null and false are left out.
 * @param {...(Node|null)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child));
  return node;
}

/**
 * An icon of strokes on a 16 x 16 square.
 * @param {string[]} paths `d` of each stroke
 * @returns {SVGElement}
 */
export function icon(paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "si-icon");
  for (const d of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/**
 * Call a function once, some time after its last asking.
 * @param {() => void} run
 * @param {number} wait_ms
 * @returns {{ask: () => void, stop: () => void}}
 */
export function later(run, wait_ms) {
  let timer = 0;
  const stop = () => clearTimeout(timer);
  const ask = () => {
    stop();
    timer = setTimeout(run, wait_ms);
  };
  return { ask, stop };
}
