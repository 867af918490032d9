/** The viewer: takes data, keeps what the user did, and has the parts draw it. */

import { Camera } from "./camera.js";
import { el, later } from "./dom.js";
import { figure } from "./figure.js";
import { HoverCard } from "./hover.js";
import { helpDialog, listenKeys } from "./keys.js";
import { Tools } from "./lasso.js";
import { Layer } from "./layer.js";
import { Legend } from "./legend.js";
import { Link } from "./link.js";
import { Overlay } from "./overlay.js";
import { regionAt } from "./regions.js";
import { ScaleBar } from "./scalebar.js";
import { Spots } from "./spots.js";
import { testHandle } from "./stamp.js";
import { Toolbar } from "./toolbar.js";

const STATE_MS = 250;
const NEAR_PX = 6; // a click this near to a spot's centre or a region's outline hits it
const ALL_TOOLS = ["pan", "lasso", "box"];
const NO_MPP = "Pixel size unknown: lengths are in pixels";

export class SlideViewer {
  constructor(root, { OpenSeadragon, transport, drawer, on }) {
    Object.assign(this, { root, OpenSeadragon, transport, drawer, on });
    this.data = null;
    this.applied = {}; // what of the data is on the screen: signature of each part
    this.session = 0; // counts openings: answers to an older one are dropped
    this.ranges = new Map(); // the user's range of each layer by name
    this.zeros = new Set(); // names of the layers whose zeros are shown
    this.model = emptyModel();
    this.state = later(() => this.#sendState(), STATE_MS);
    this.link = new Link({ umPerPx: () => this.#umPerPx(), follow: (value) => this.#follow(value) });
    this.#build();
    root.__stamp = testHandle(this);
  }

  // ---- parts of the page -------------------------------------------------------------------

  #build() {
    this.toolbar = new Toolbar({
      tool: (name) => this.#tool(name),
      clear: () => this.#clear(),
      fit: () => this.camera?.fit(),
      help: () => this.help.showModal(),
      spotOpacity: (value) => this.#opacity("spotOpacity", value),
      imageOpacity: (value) => this.#opacity("imageOpacity", value),
    });
    this.legend = new Legend({ range: (range) => this.#range(range), zeros: (shown) => this.#showZeros(shown) });
    this.bar = new ScaleBar();
    this.card = new HoverCard(
      (index) => this.transport.json(`spots/${index}`),
      (index) => this.#shownValue(index),
    );
    this.help = helpDialog();
    this.banner = el("div", { class: "si-banner", role: "status" });
    this.hint = el("div", { class: "si-hint", role: "status" });
    this.canvasHost = el("div", { class: "si-canvas" });
    const inside = [this.canvasHost, this.banner, this.bar.element, this.hint, this.legend.element, this.card.element];
    this.stage = el("div", { class: "si-stage", tabindex: 0, role: "group" }, ...inside);
    this.element = el("div", { class: "si-viewer" }, this.toolbar.element, this.stage, this.help);
    this.root.append(this.element);
    this.#listen();
    this.#showTools();
  }

  #listen() {
    this.stage.addEventListener("pointermove", (event) => this.#hover(event));
    this.stage.addEventListener("pointerleave", () => this.#unhover());
    this.canvasHost.addEventListener("pointerdown", () => this.stage.focus({ preventScroll: true }));
    this.stopKeys = listenKeys(this.element, {
      tool: (name) => this.#tool(name),
      clear: () => this.#clear(),
      fit: () => this.camera?.fit(),
      one: () => this.camera?.show({ zoom: 1 }),
      zoom: (factor) => this.camera?.zoomBy(factor),
      pan: (dx, dy) => this.camera?.panBy(dx, dy),
      spots: () => this.#toggleSpots(),
      centre: () => this.#centre(),
      hold: (held) => this.#hold(held),
      page: (name) => this.on.key?.(name),
    });
  }

  #showTools() {
    const tools = this.data?.tools || ALL_TOOLS;
    if (!tools.includes(this.model.tool)) this.model.tool = tools[0] || "pan";
    this.toolbar.show({ ...this.model, tools, hasImage: Boolean(this.data?.image) });
    this.stage.dataset.tool = this.tools?.panning ? "pan" : this.model.tool;
  }

  #redraw(what) {
    this.overlay?.ask(what);
  }

  // ---- data from outside -------------------------------------------------------------------

  /** Take data; only what differs from the last data is done. */
  update(data) {
    const first = this.data === null;
    const other = first || data.key !== this.data.key;
    this.data = data;
    if (first) this.#takeState(data.state);
    if (other) this.#open(first);
    else if (this.ready) this.#sync();
  }

  #takeState(state) {
    if (!state) return;
    const { model } = this;
    model.spotOpacity = state.spotOpacity ?? model.spotOpacity;
    model.imageOpacity = state.imageOpacity ?? model.imageOpacity;
    model.spotsShown = state.spotsShown ?? model.spotsShown;
    if (state.range) this.ranges.set(state.range.name, { low: state.range.low, high: state.range.high });
  }

  async #open(first) {
    const session = ++this.session;
    this.#close();
    this.element.setAttribute("aria-busy", "true");
    const spots = this.#loadSpots(session);
    if (!this.data.image) await spots; // they say how large the slide is
    await sized(this.stage);
    if (session !== this.session) return;
    const { image } = this.data;
    this.slide = { image, frame: image ? { x: 0, y: 0, ...image } : frameOf(this.model.spots) };
    const options = { ...this.slide, drawer: this.drawer };
    this.camera = new Camera(this.OpenSeadragon, this.canvasHost, options, this.transport);
    this.following = true; // the zoom of an opening slide is nobody's wish
    this.camera.on("zoom", () => this.following || this.link.tell());
    this.camera.on("tile-loaded", () => {
      this.tilesSeen = true;
    });
    await this.camera.opened;
    if (session !== this.session) return;
    this.#start(first);
  }

  /** The camera is open: everything else can go on the screen. */
  #start(first) {
    this.overlay = new Overlay(this.camera, this.model, (screen) => this.#drawn(screen));
    this.tools = new Tools(this.camera, this.model, {
      lasso: (polygon) => this.#lasso(polygon),
      click: (x, y) => this.#click(x, y),
      redraw: () => this.#redraw(),
    });
    this.camera.on("update-viewport", () => this.#checkReady());
    this.camera.setImageOpacity(this.model.imageOpacity);
    const { view } = this.data.state || {};
    if (first && view) {
      this.camera.show(view, true);
      this.applied.focus = this.data.focus?.stamp; // a link to a view is not overruled
    }
    this.ready = true;
    this.tilesSeen ||= !this.data.image;
    this.#sync();
    this.following = false;
    this.sent = JSON.stringify(this.#stateNow());
    this.camera.redraw();
  }

  #close() {
    this.ready = this.drawnOnce = this.tilesSeen = false;
    this.root.__stamp.ready = false;
    this.overlay?.destroy();
    this.camera?.destroy();
    this.canvasHost.replaceChildren();
    this.camera = this.overlay = this.tools = null;
    this.applied = {};
    const { tool, spotOpacity, imageOpacity, spotsShown } = this.model;
    Object.assign(this.model, emptyModel(), { tool, spotOpacity, imageOpacity, spotsShown });
    this.card.forget();
    this.legend.show(null);
  }

  /** Put on the screen what of the data is not there yet. */
  #sync() {
    const { data, model } = this;
    const parts = {
      about: [[data.label, data.mpp, data.tools], () => this.#about()],
      spots: [data.spots, () => this.#loadSpots(this.session)],
      layer: [data.layer, () => this.#loadLayer()],
      palette: [data.palette, () => this.#paint()],
      marks: [[data.marks, data.picked], () => Object.assign(model, { marks: data.marks || [], picked: data.picked ?? null })],
      regions: [data.regions, () => Object.assign(model, { regions: data.regions || [] })],
      lasso: [data.lassoStamp ?? null, () => this.#lasso(data.lasso ?? null, { tell: false })],
      selected: [data.selected ?? null, () => this.#select(data.selected ?? null, { tell: false })],
      link: [data.link, () => this.link.set(data.link)],
    };
    for (const [name, [value, apply]] of Object.entries(parts)) {
      const signature = JSON.stringify(value ?? null);
      if (this.applied[name] === signature) continue;
      this.applied[name] = signature;
      apply();
      if (name === "link") this.#quietly(() => this.link.align());
      this.#redraw();
    }
    const { focus } = data;
    if (focus && focus.stamp !== this.applied.focus) {
      this.applied.focus = focus.stamp;
      this.#focus(focus);
    }
  }

  #about() {
    const { label, mpp } = this.data;
    this.stage.setAttribute("aria-label", label ? `Slide ${label}` : "Slide");
    this.#say("mpp", mpp ? null : NO_MPP);
    this.#showTools();
    if (this.camera) this.bar.show(this.camera.screen().scale, mpp);
  }

  /** Show or take back a sentence above the slide. */
  #say(topic, text) {
    this.sentences ??= new Map();
    if (text) this.sentences.set(topic, text);
    else this.sentences.delete(topic);
    this.banner.replaceChildren(...[...this.sentences.values()].map((line) => el("div", { text: line })));
  }

  async #loadSpots(session) {
    const { spots } = this.data;
    this.applied.spots = JSON.stringify(spots ?? null);
    this.spotsPending = Boolean(spots);
    try {
      const xy = spots ? new Float32Array((await this.transport.bytes(spots.path)).buffer) : new Float32Array(0);
      if (session !== this.session) return;
      if (spots && xy.length !== 2 * spots.n) {
        throw new Error(`${xy.length / 2} places came for ${spots.n} spots`);
      }
      this.model.spots = new Spots(xy, spots || { diameter: 1, shape: "circle" });
      this.#say("spots", null);
    } catch (error) {
      if (session !== this.session) return;
      this.applied.spots = undefined; // the next update tries again
      this.model.spots = new Spots(new Float32Array(0), { diameter: 1, shape: "circle" });
      this.#say("spots", `The spots could not be loaded: ${error.message}`);
    }
    this.spotsPending = false;
    this.model.layer = null;
    this.#measure();
    this.#redraw({ spots: true });
    if (this.ready) this.#loadLayer();
  }

  async #loadLayer() {
    const { layer } = this.data;
    this.applied.layer = JSON.stringify(layer ?? null);
    const { spots } = this.model;
    const asked = (this.asked = {}); // an answer that is overtaken is dropped
    if (!spots) return; // asked again when they have come
    this.layerPending = Boolean(layer);
    try {
      const next = layer ? new Layer(layer.name, await this.transport.bytes(layer.path), spots) : null;
      if (asked !== this.asked || spots !== this.model.spots) return;
      this.model.layer = next;
      this.#say("layer", null);
    } catch (error) {
      if (asked !== this.asked || spots !== this.model.spots) return;
      this.applied.layer = undefined;
      this.model.layer = null;
      this.#say("layer", `${layer.name} could not be loaded: ${error.message}`);
    }
    this.layerPending = false;
    this.card.forget();
    this.#paint();
    this.legend.show(this.model.layer);
  }

  /** Colours of the layer, from the user's range if there is one. */
  #paint() {
    const { layer } = this.model;
    const { palette = "viridis" } = this.data;
    if (layer) {
      const { name } = layer;
      layer.paint({ range: this.ranges.get(name) || null, palette, zeros: this.zeros.has(name) });
    }
    this.#redraw({ spots: true });
  }

  // ---- what the user does ------------------------------------------------------------------

  #tool(name) {
    if (!(this.data?.tools || ALL_TOOLS).includes(name)) return;
    this.model.tool = name;
    this.#showTools();
  }

  #hold(held) {
    if (!this.tools) return;
    this.tools.panning = held;
    this.#showTools();
  }

  #clear() {
    if (this.tools?.cancel()) this.#redraw();
    else if (this.model.lasso) this.#lasso(null);
  }

  #lasso(polygon, { tell = true } = {}) {
    this.model.lasso = polygon && polygon.length >= 3 ? polygon : null;
    this.#measure();
    this.#showTools();
    this.#redraw({ spots: true });
    if (tell) this.on.lasso?.(this.model.lasso);
  }

  /** Which spots lie in the lasso. */
  #measure() {
    const { spots, lasso } = this.model;
    const { mask, count } = spots && lasso ? spots.inside(lasso) : { mask: null, count: 0 };
    Object.assign(this.model, { mask, inside: count });
  }

  #opacity(which, value) {
    this.model[which] = value;
    if (which === "imageOpacity") this.camera?.setImageOpacity(value);
    this.#redraw({ spots: true });
    this.state.ask();
  }

  #toggleSpots() {
    this.model.spotsShown = !this.model.spotsShown;
    this.#redraw({ spots: true });
    this.state.ask();
  }

  #range(range) {
    const { layer } = this.model;
    if (range) this.ranges.set(layer.name, range);
    else this.ranges.delete(layer.name);
    this.#paint();
    this.legend.mark(layer.range);
    this.state.ask();
  }

  #showZeros(shown) {
    const { name } = this.model.layer;
    if (shown) this.zeros.add(name);
    else this.zeros.delete(name);
    this.#paint();
  }

  #spotAt(x, y) {
    const { spots, spotsShown } = this.model;
    if (!spots || !spotsShown) return null;
    const [slideX, slideY] = this.camera.toSlide(x, y);
    return spots.nearest(slideX, slideY, Math.max(spots.radius, NEAR_PX / this.camera.screen().scale));
  }

  #click(x, y) {
    if (this.tools.vertexAt(x, y) !== null) return;
    const at = this.camera.toSlide(x, y);
    const near = NEAR_PX / this.camera.screen().scale;
    const { regions } = this.model;
    const outlined = regionAt(regions, at, near, { inside: false });
    const spot = outlined ? null : this.#spotAt(x, y);
    const region = outlined || (spot === null ? regionAt(regions, at, near, { inside: true }) : null);
    if (region) this.on.region?.(region.id);
    else this.#select(spot);
  }

  #select(index, { tell = true } = {}) {
    const changed = this.model.selected !== index;
    this.model.selected = index;
    this.#redraw();
    if (tell && changed) this.on.spot?.(index);
  }

  #centre() {
    const { spots, selected } = this.model;
    if (selected === null || !spots || selected >= spots.n) return;
    const [x, y] = spots.at(selected);
    this.camera.show({ x, y });
  }

  #hover(event) {
    const over = event.composedPath();
    const navigator = this.camera?.viewer.navigator?.element;
    if (!this.ready || !over.includes(this.canvasHost) || over.includes(navigator)) return this.#unhover();
    const area = this.canvasHost.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    const busy = event.buttons !== 0;
    this.stage.classList.toggle("si-on-vertex", this.tools.vertexAt(x, y) !== null);
    const index = busy ? null : this.#spotAt(x, y);
    if (index !== this.model.hovered) {
      this.model.hovered = index;
      this.#redraw();
    }
    this.card.point(index, () => this.camera.toScreen(...this.model.spots.at(index)));
  }

  #unhover() {
    this.card.point(null);
    if (this.model.hovered === null) return;
    this.model.hovered = null;
    this.#redraw();
  }

  #shownValue(index) {
    const { layer } = this.model;
    return layer ? { name: layer.meta.name, text: layer.textAt(index) } : null;
  }

  // ---- zoom and state ----------------------------------------------------------------------

  #umPerPx() {
    return this.ready ? (this.data.mpp || 1) / this.camera.view().zoom : null;
  }

  #follow(value) {
    if (!this.ready) return;
    this.#quietly(() => this.camera.show({ zoom: (this.data.mpp || 1) / value }));
  }

  /** Do something whose zoom is not told to the linked viewers. */
  #quietly(act) {
    const before = this.following;
    this.following = true;
    act();
    this.following = before;
  }

  #focus({ x, y, width_um, width_px }) {
    const width = width_px ?? (width_um ? width_um / (this.data.mpp || 1) : null);
    const zoom = width ? this.camera.screen().width / width : undefined;
    this.camera.show({ x, y, zoom });
  }

  #drawn(screen) {
    this.bar.show(screen.scale, this.data.mpp);
    const { drawn, shared } = this.overlay.painter;
    const crowded = shared > 0.05 * drawn;
    const text = crowded ? "Zoomed out: of the spots on one screen pixel the highest shows" : "";
    if (this.hint.textContent !== text) this.hint.textContent = text;
    if (this.model.hovered === null) this.card.point(null);
    this.state.ask();
  }

  #checkReady() {
    if (this.drawnOnce || !this.tilesSeen || this.spotsPending || this.layerPending) return;
    if (this.overlay.stale || this.overlay.recolour) return this.#redraw();
    this.drawnOnce = true;
    this.root.__stamp.ready = true;
    this.element.setAttribute("aria-busy", "false");
    this.root.dispatchEvent(new CustomEvent("stamp-ready", { bubbles: true, composed: true }));
  }

  #stateNow() {
    const { spotOpacity, imageOpacity, spotsShown, layer } = this.model;
    const { x, y, zoom } = this.camera.view();
    const range = layer && this.ranges.get(layer.name);
    return {
      view: { x: Math.round(x), y: Math.round(y), zoom: Number(zoom.toPrecision(4)) },
      spotOpacity,
      imageOpacity,
      spotsShown,
      range: range ? { name: layer.name, ...range } : null,
    };
  }

  #sendState() {
    if (!this.ready) return;
    const state = this.#stateNow();
    const text = JSON.stringify(state);
    if (text === this.sent) return;
    this.sent = text;
    this.on.state?.(state);
  }

  // ---- the end -----------------------------------------------------------------------------

  /** What is seen, as a PNG of twice the size. */
  toImage() {
    if (!this.ready) return Promise.reject(new Error("no slide is open"));
    const { OpenSeadragon, camera, model, slide, transport } = this;
    return figure({ OpenSeadragon, camera, model, slide, transport, mpp: this.data.mpp, root: this.element });
  }

  destroy() {
    this.session++;
    this.state.stop();
    this.stopKeys();
    this.link.leave();
    this.#close();
    this.card.destroy();
    this.element.remove();
    delete this.root.__stamp;
  }
}

function emptyModel() {
  return {
    spots: null, layer: null, colours: null, mask: null, inside: 0,
    spotOpacity: 0.6, imageOpacity: 1, spotsShown: true,
    lasso: null, draft: null, heldVertex: null,
    marks: [], picked: null, regions: [], selected: null, hovered: null, tool: "pan",
  }; // prettier-ignore
}

/** What "fit" shows of a slide without a picture: its spots and a margin. */
function frameOf(spots) {
  const { left, top, right, bottom } = spots.bounds;
  const margin = 0.05 * Math.max(right - left, bottom - top) + 2 * spots.radius;
  return {
    x: left - margin,
    y: top - margin,
    width: right - left + 2 * margin,
    height: bottom - top + 2 * margin,
  };
}

/** Wait until an element has a size: OpenSeadragon cannot open in a hidden tab. */
function sized(element) {
  if (element.clientWidth && element.clientHeight) return Promise.resolve();
  return new Promise((done) => {
    const watch = new ResizeObserver(() => {
      if (!element.clientWidth || !element.clientHeight) return;
      watch.disconnect();
      done();
    });
    watch.observe(element);
  });
}
