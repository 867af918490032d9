/** The viewer: takes data, keeps what the user did, and has the parts draw it. */

import { Camera } from "./camera.js";
import { Content } from "./content.js";
import { el, later } from "./dom.js";
import { middleOf } from "./geometry.js";
import { HoverCard } from "./hover.js";
import { helpDialog, listenKeys } from "./keys.js";
import { Tools } from "./lasso.js";
import { Legend } from "./legend.js";
import { Link } from "./link.js";
import { emptyModel, frameOf } from "./model.js";
import { Overlay } from "./overlay.js";
import { Pointing, clicked } from "./pointing.js";
import { ScaleBar } from "./scalebar.js";
import { Settings } from "./settings.js";
import { testHandle } from "./stamp.js";
import { Toolbar } from "./toolbar.js";

const STATE_MS = 250;
const ALL_TOOLS = ["pan", "lasso", "box"];
const NO_MPP = "Pixel size unknown: lengths are in pixels";
const CROWDED = "Zoomed out: of the spots on one screen pixel the highest shows";

/** See index.js for what goes in and out. */
export class SlideViewer {
  constructor(root, { OpenSeadragon, transport, drawer, on }) {
    Object.assign(this, { root, OpenSeadragon, transport, drawer, on });
    this.data = null;
    this.applied = {}; // what of the data is on the screen: the signature of each part
    this.session = 0; // counts openings: answers to an older one are dropped
    this.problems = new Map();
    this.model = emptyModel();
    this.settings = new Settings();
    this.state = later(() => this.#sendState(), STATE_MS);
    this.link = new Link({ umPerPx: () => this.#umPerPx(), follow: (value) => this.#follow(value) });
    this.content = new Content(transport, this.model, {
      spots: () => this.#newSpots(),
      layer: () => this.#newLayer(),
      problem: (topic, sentence) => this.#problem(topic, sentence),
    });
    this.#build();
    root.__stamp = testHandle(this);
  }

  // ---- parts of the page -------------------------------------------------------------------

  #build() {
    const act = this.#acts();
    this.toolbar = new Toolbar(act);
    this.legend = new Legend({ range: (range) => this.#range(range), zeros: (shown) => this.#zeros(shown) });
    this.bar = new ScaleBar();
    this.card = new HoverCard(
      (index) => this.transport.json(`spots/${index}`),
      (index) => this.model.layer && { name: this.model.layer.meta.name, text: this.model.layer.textAt(index) },
    );
    this.help = helpDialog();
    this.banner = el("div", { class: "si-banner", role: "status" });
    this.hint = el("div", { class: "si-hint", role: "status" });
    this.canvasHost = el("div", { class: "si-canvas" });
    const inside = [this.canvasHost, this.banner, this.bar.element, this.hint, this.legend.element, this.card.element];
    this.stage = el("div", { class: "si-stage", tabindex: 0, role: "group" }, ...inside);
    this.element = el("div", { class: "si-viewer" }, this.toolbar.element, this.stage, this.help);
    this.root.append(this.element);
    this.canvasHost.addEventListener("pointerdown", () => this.stage.focus({ preventScroll: true }));
    this.pointing = new Pointing(this, () => this.#redraw());
    this.stopKeys = listenKeys(this.element, act);
    this.#showTools();
  }

  /** What buttons and keys do. */
  #acts() {
    return {
      tool: (name) => this.#tool(name),
      clear: () => this.#clear(),
      fit: () => this.camera?.fit(),
      help: () => this.help.showModal(),
      one: () => this.camera?.show({ zoom: 1 }),
      zoom: (factor) => this.camera?.zoomBy(factor),
      pan: (dx, dy) => this.camera?.panBy(dx, dy),
      spots: () => this.#set("spotsShown", !this.model.spotsShown),
      spotOpacity: (value) => this.#set("spotOpacity", value),
      imageOpacity: (value) => this.#set("imageOpacity", value),
      centre: () => this.#centre(),
      hold: (held) => this.#hold(held),
      page: (name) => this.on.key?.(name),
    };
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

  /** Sentences above the slide: the missing pixel size, and what could not be loaded. */
  #problem(topic, sentence) {
    if (sentence) this.problems.set(topic, sentence);
    else this.problems.delete(topic);
    if (sentence) delete this.applied[topic]; // the next update tries again
    this.banner.replaceChildren(...[...this.problems.values()].map((text) => el("div", { text })));
  }

  // ---- data from outside -------------------------------------------------------------------

  /** Take data; only what differs from the last data is done. */
  update(data) {
    const first = this.data === null;
    const other = first || data.key !== this.data.key;
    this.data = data;
    if (first) this.settings.take(data.state, this.model);
    if (other) this.#open(first);
    else if (this.tools) this.#sync();
  }

  async #open(first) {
    const session = ++this.session;
    this.#close();
    this.element.setAttribute("aria-busy", "true");
    const { image, spots } = this.data;
    this.applied.spots = JSON.stringify(spots ?? null);
    const placed = this.content.spots(spots);
    if (!image) await placed; // they say how large the slide is
    await this.#sized();
    if (session !== this.session) return;
    this.slide = { image, frame: image ? { x: 0, y: 0, ...image } : frameOf(this.model.spots) };
    const options = { ...this.slide, drawer: this.drawer };
    this.camera = new Camera(this.OpenSeadragon, this.canvasHost, options, this.transport);
    this.tilesSeen = !image;
    this.camera.on("tile-loaded", () => {
      this.tilesSeen = true;
    });
    await this.camera.opened;
    if (session === this.session) this.#start(first);
  }

  /** Wait until the stage has a size: OpenSeadragon cannot open in a hidden tab. */
  #sized() {
    return new Promise((done) => {
      this.watch = new ResizeObserver(() => {
        if (!this.stage.clientWidth || !this.stage.clientHeight) return;
        this.watch.disconnect();
        done();
      });
      this.watch.observe(this.stage);
    });
  }

  /** The camera is open: everything else can go on the screen. */
  #start(first) {
    const { camera, data } = this;
    this.overlay = new Overlay(camera, this.model, (screen, moved) => this.#drawn(screen, moved));
    this.tools = new Tools(camera, this.model, {
      lasso: (polygon) => this.#lasso(polygon),
      click: (x, y) => this.#click(x, y),
      redraw: () => this.#redraw(),
    });
    camera.on("update-viewport", () => this.#checkReady());
    clearInterval(this.readying); // what comes last need not move or draw anything
    this.readying = setInterval(() => this.#checkReady(), 100);
    camera.setImageOpacity(this.model.imageOpacity);
    if (first && data.state?.view) {
      camera.show(data.state.view, true);
      this.applied.focus = data.focus?.stamp; // a link to a view is not overruled
    }
    this.#sync();
    this.sent = JSON.stringify(this.settings.now(this.model, camera.view()));
    camera.on("zoom", () => this.following || this.link.tell());
    this.#redraw({ spots: true });
    camera.redraw();
  }

  #close() {
    clearInterval(this.readying);
    this.drawnOnce = this.root.__stamp.ready = false;
    this.watch?.disconnect();
    this.content.forget();
    this.card.forget();
    this.legend.show(null);
    this.overlay?.destroy();
    this.camera?.destroy();
    this.canvasHost.replaceChildren();
    this.camera = this.overlay = this.tools = null;
    this.applied = {};
    const { tool, spotOpacity, imageOpacity, spotsShown } = this.model;
    Object.assign(this.model, emptyModel(), { tool, spotOpacity, imageOpacity, spotsShown });
  }

  /** Put on the screen what of the data is not there yet. */
  #sync() {
    const { data, model, content } = this;
    const { marks, picked, regions, lasso, selected, link } = data;
    this.#apply("about", [data.label, data.mpp, data.tools], () => this.#about());
    this.#apply("spots", data.spots, () => content.spots(data.spots));
    this.#apply("layer", data.layer, () => content.layer(data.layer));
    this.#apply("palette", data.palette, () => this.#newLayer());
    this.#apply("marks", [marks, picked], () => Object.assign(model, { marks: marks || [], picked }));
    this.#apply("regions", regions, () => Object.assign(model, { regions: regions || [] }));
    this.#apply("lasso", data.lassoStamp, () => this.#lasso(lasso ?? null, { tell: false }));
    this.#apply("selected", selected, () => this.#select(selected ?? null, { tell: false }));
    this.#apply("link", link, () => {
      this.link.set(link);
      this.link.align();
    });
    const { focus } = data;
    if (!focus || focus.stamp === this.applied.focus) return;
    this.applied.focus = focus.stamp;
    this.#focus(focus);
  }

  #apply(part, value, run) {
    const signature = JSON.stringify(value ?? null);
    if (this.applied[part] === signature) return;
    this.applied[part] = signature;
    run();
    this.#redraw();
  }

  #about() {
    const { label, mpp } = this.data;
    this.stage.setAttribute("aria-label", label ? `Slide ${label}` : "Slide");
    this.#problem("mpp", mpp ? null : NO_MPP);
    this.#showTools();
    this.bar.show(this.camera.screen().scale, mpp);
  }

  #newSpots() {
    this.#measure();
    this.#redraw({ spots: true });
  }

  #newLayer() {
    this.card.forget(); // its values belong to the old layer
    this.#paint();
    this.legend.show(this.model.layer);
  }

  /** Colours of the layer, from the user's range if there is one. */
  #paint() {
    const { layer } = this.model;
    const { settings } = this;
    if (layer) {
      const [range, zeros] = [settings.rangeOf(layer.name), settings.showsZeros(layer.name)];
      layer.paint({ range, zeros, palette: this.data.palette || "viridis" });
    }
    this.#redraw({ spots: true });
  }

  // ---- what the user does ------------------------------------------------------------------

  #tool(name) {
    if (!(this.data?.tools || ALL_TOOLS).includes(name)) return;
    this.model.tool = name;
    this.#showTools();
  }

  /** The space bar is held, or let go. */
  #hold(held) {
    if (this.tools) this.tools.panning = held;
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

  #set(what, value) {
    this.model[what] = value;
    if (what === "imageOpacity") this.camera?.setImageOpacity(value);
    this.#showTools();
    this.#redraw({ spots: true });
    this.state.ask();
  }

  #range(range) {
    const { layer } = this.model;
    this.settings.setRange(layer.name, range);
    this.#paint();
    this.legend.mark(layer.range);
    this.state.ask();
  }

  #zeros(shown) {
    this.settings.setZeros(this.model.layer.name, shown);
    this.#paint();
  }

  #click(x, y) {
    if (this.tools.vertexAt(x, y) !== null) return;
    const { region, spot } = clicked(this.model, this.camera, x, y);
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
    this.camera?.show({ x, y });
  }

  // ---- zoom and state ----------------------------------------------------------------------

  /** Where the zoom will end, in um (or px of the slide) per px of the screen. */
  #umPerPx() {
    return this.tools ? (this.data.mpp || 1) / this.camera.view().zoom : null;
  }

  /** Take the zoom of a linked viewer, without telling it back. */
  #follow(value) {
    if (!this.tools) return;
    this.following = true;
    // The other's zoom must not push the lasso out of sight.
    this.camera.show({ zoom: (this.data.mpp || 1) / value, ...middleOf(this.model.lasso) });
    this.following = false;
  }

  #focus({ x, y, width_um, width_px }) {
    const width = width_px ?? (width_um ? width_um / (this.data.mpp || 1) : null);
    const zoom = width ? this.camera.screen().width / width : undefined;
    this.camera.show({ x, y, zoom });
  }

  #drawn(screen, moved) {
    this.bar.show(screen.scale, this.data.mpp);
    const { drawn, shared } = this.overlay.painter;
    const hint = shared > 0.05 * drawn ? CROWDED : "";
    if (this.hint.textContent !== hint) this.hint.textContent = hint;
    if (moved) this.card.point(null);
    this.state.ask();
    this.#checkReady();
  }

  /** Say that the first whole drawing is done; asked after every drawing of picture or overlay. */
  #checkReady() {
    const { pending } = this.content;
    if (this.drawnOnce || !this.tools || !this.tilesSeen || pending.spots || pending.layer) return;
    if (this.overlay.stale || this.overlay.recolour) return;
    clearInterval(this.readying);
    this.drawnOnce = this.root.__stamp.ready = true;
    this.element.setAttribute("aria-busy", "false");
    this.root.dispatchEvent(new CustomEvent("stamp-ready", { bubbles: true, composed: true }));
  }

  #sendState() {
    if (!this.tools || this.stage.clientWidth < 10) return; // on its way out it has no size
    const state = this.settings.now(this.model, this.camera.view());
    const text = JSON.stringify(state);
    if (text === this.sent) return;
    this.sent = text;
    this.on.state?.(state);
  }

  // ---- the end -----------------------------------------------------------------------------

  /** Remove everything that mount() made. */
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
