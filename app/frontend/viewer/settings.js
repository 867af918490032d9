/** What the user set and keeps: opacities, and a colour range for each layer by name. */

export class Settings {
  #ranges = new Map();
  #zeros = new Set();

  /** Take what was kept from another time. */
  take(state, model) {
    if (!state) return;
    model.spotOpacity = state.spotOpacity ?? model.spotOpacity;
    model.imageOpacity = state.imageOpacity ?? model.imageOpacity;
    model.spotsShown = state.spotsShown ?? model.spotsShown;
    if (state.range) this.setRange(state.range.name, { low: state.range.low, high: state.range.high });
  }

  /** The user's range of a layer, or null for the default one. */
  rangeOf(name) {
    return this.#ranges.get(name) ?? null;
  }

  setRange(name, range) {
    if (range) this.#ranges.set(name, range);
    else this.#ranges.delete(name);
  }

  showsZeros(name) {
    return this.#zeros.has(name);
  }

  setZeros(name, shown) {
    if (shown) this.#zeros.add(name);
    else this.#zeros.delete(name);
  }

  /** The state that a link to this view must hold. */
  now(model, view) {
    const { spotOpacity, imageOpacity, spotsShown, layer } = model;
    const range = layer && this.rangeOf(layer.name);
    return {
      view: { x: Math.round(view.x), y: Math.round(view.y), zoom: Number(view.zoom.toPrecision(4)) },
      spotOpacity,
      imageOpacity,
      spotsShown,
      range: range ? { name: layer.name, ...range } : null,
    };
  }
}
