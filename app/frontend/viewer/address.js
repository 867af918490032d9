// View, lasso and colours in the page's address, in letters that need no escape. The same code stands in
// stamp_index/addresses.py, which reads and writes the lasso for links.
export const polygonText = (polygon) => {
  let [px, py] = [0, 0];
  return polygon
    .flatMap(([x, y]) => {
      const step = [Math.round(x) - px, Math.round(y) - py];
      [px, py] = [Math.round(x), Math.round(y)];
      return step;
    })
    .join(".");
};

export const polygonOf = (text) => {
  const steps = (text || "").split(".").map(Number);
  if (steps.length < 6 || steps.length % 2 || steps.length > 1000 || !steps.every(Number.isInteger)) return null;
  let [x, y] = [0, 0];
  const out = [];
  for (let i = 0; i < steps.length; i += 2) {
    x += steps[i];
    y += steps[i + 1];
    out.push([x, y]);
  }
  return out;
};

const share = (text) => {
  const value = Number(text);
  return text !== null && Number.isFinite(value) && value >= 0 && value <= 100 ? value / 100 : undefined;
};

export function readState(search = window.location.search) {
  const held = new URLSearchParams(search);
  const state = {};
  const view = (held.get("view") || "").split(".").map(Number);
  if (view.length === 3 && view.every(Number.isInteger) && view[2] > 0) {
    state.view = { x: view[0], y: view[1], zoom: view[2] / 10000 };
  }
  const [spots, image] = [share(held.get("spots")), share(held.get("image"))];
  if (spots !== undefined) state.spotOpacity = spots;
  if (image !== undefined) state.imageOpacity = image;
  const range = (held.get("range") || "").match(/^([^~]{1,100})~(-?[\d.]+)~(-?[\d.]+)$/);
  if (range) state.range = { name: range[1], low: Number(range[2]), high: Number(range[3]) };
  return state;
}

export function writeState(state) {
  const url = new URL(window.location.href);
  const put = (name, text) => (text ? url.searchParams.set(name, text) : url.searchParams.delete(name));
  if (state.view) {
    const { x, y, zoom } = state.view;
    put("view", [Math.round(x), Math.round(y), Math.max(1, Math.round(zoom * 10000))].join("."));
  }
  if ("poly" in state) {
    put("poly", state.poly ? polygonText(state.poly) : "");
    put("polyof", state.poly ? state.slide : ""); // on another slide it means nothing
  }
  if ("spot" in state) put("spot", state.spot);
  if ("spotOpacity" in state) put("spots", String(Math.round(state.spotOpacity * 100)));
  if ("imageOpacity" in state) put("image", String(Math.round(state.imageOpacity * 100)));
  if ("range" in state) {
    const range = state.range;
    put("range", range ? `${range.name}~${Number(range.low.toFixed(3))}~${Number(range.high.toFixed(3))}` : "");
  }
  if (url.href !== window.location.href) window.history.replaceState(window.history.state, "", url.href);
}
