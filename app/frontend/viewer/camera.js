/** What part of the slide is seen: OpenSeadragon in level-0 pixels and screen pixels. */

import { tileSource } from "./tiles.js";

const MOST_SCALE = 8; // screen px per level-0 px
const OVERVIEW_PX = 150; // longest side
const GESTURES = {
  clickToZoom: false,
  dblClickToZoom: true,
  scrollToZoom: true,
  pinchToZoom: true,
  flickEnabled: false,
};

/** One open slide in an element. A "view" is {x, y, zoom}: centre and screen px per level-0 px. */
export class Camera {
  /**
   * @param {object} OpenSeadragon
   * @param {HTMLElement} host
   * @param {object} slide
   * @param {object | null} slide.image
   * @param {{x: number, y: number, width: number, height: number}} slide.frame what "fit" shows
   * @param {string} slide.drawer "canvas" or "auto"
   * @param {boolean} slide.overview whether a small map is shown
   * @param {object} transport
   */
  constructor(OpenSeadragon, host, { image, frame, drawer, overview = true }, transport) {
    this.OSD = OpenSeadragon;
    this.frame = frame;
    this.viewer = OpenSeadragon({
      element: host,
      ...(drawer === "canvas" ? { drawer: "canvas", navigatorDrawer: "canvas" } : {}),
      showNavigationControl: false,
      showNavigator: Boolean(image) && overview,
      navigatorPosition: "TOP_RIGHT",
      ...overviewSize(frame, host),
      navigatorAutoFade: false,
      navigatorBackground: "#fff",
      navigatorOpacity: 1,
      navigatorBorderColor: "#b7c2c9",
      navigatorDisplayRegionColor: "#0f6e84",
      keyboardNavEnabled: false,
      tabIndex: "",
      animationTime: 0.35,
      springStiffness: 9,
      zoomPerScroll: 1.25,
      visibilityRatio: 0.2,
      minZoomImageRatio: 0.5,
      maxZoomPixelRatio: MOST_SCALE,
      gestureSettingsMouse: GESTURES,
      gestureSettingsPen: GESTURES,
      gestureSettingsTouch: GESTURES,
      imageLoaderLimit: 8,
      maxTilesPerFrame: 4,
    });
    this.opened = new Promise((done) => this.viewer.addOnceHandler("open", () => done(this)));
    this.viewer.open(tileSource(OpenSeadragon, image, frame, transport));
  }

  on(name, handler) {
    this.viewer.addHandler(name, handler);
  }

  /** Whether the first tiles (or no picture) are there to be seen. */
  get open() {
    return Boolean(this.viewer.world?.getItemAt(0));
  }

  /** What is on the screen now: {scale, left, top, width, height}, the last two in CSS px. */
  screen(current = true) {
    const bounds = this.viewer.viewport.getBoundsNoRotate(current);
    const size = this.viewer.viewport.getContainerSize();
    const scale = size.x / (bounds.width * this.frame.width);
    const left = this.frame.x + bounds.x * this.frame.width;
    const top = this.frame.y + bounds.y * this.frame.width;
    return { scale, left, top, width: size.x, height: size.y };
  }

  /** Centre and zoom, where an animation will end. */
  view() {
    const { scale, left, top, width, height } = this.screen(false);
    return { x: left + width / scale / 2, y: top + height / scale / 2, zoom: scale };
  }

  toScreen(x, y) {
    const { scale, left, top } = this.screen();
    return [(x - left) * scale, (y - top) * scale];
  }

  toSlide(screenX, screenY) {
    const { scale, left, top } = this.screen();
    return [left + screenX / scale, top + screenY / scale];
  }

  #point(x, y) {
    return new this.OSD.Point((x - this.frame.x) / this.frame.width, (y - this.frame.y) / this.frame.width);
  }

  #osdZoom(scale) {
    return (scale * this.frame.width) / this.viewer.viewport.getContainerSize().x;
  }

  /** Go to a view; parts that are not given stay. */
  show({ x, y, zoom }, immediately = false) {
    const { viewport } = this.viewer;
    if (zoom !== undefined) viewport.zoomTo(this.#within(this.#osdZoom(zoom)), null, immediately);
    if (x !== undefined) viewport.panTo(this.#point(x, y), immediately);
  }

  #within(osdZoom) {
    const { viewport } = this.viewer;
    return Math.min(Math.max(osdZoom, viewport.getMinZoom()), viewport.getMaxZoom());
  }

  /** Zoom about the middle. */
  zoomBy(factor) {
    this.viewer.viewport.zoomBy(factor);
    this.viewer.viewport.applyConstraints();
  }

  /** Move by screen pixels. */
  panBy(dx, dy) {
    const { viewport } = this.viewer;
    viewport.panBy(viewport.deltaPointsFromPixels(new this.OSD.Point(dx, dy)));
    viewport.applyConstraints();
  }

  fit() {
    this.viewer.viewport.goHome();
  }

  setImageOpacity(opacity) {
    this.viewer.world.getItemAt(0)?.setOpacity(opacity);
  }

  /** Whether all tiles that the view asks for are drawn. */
  get settled() {
    return this.viewer.world.getItemAt(0)?.getFullyLoaded() ?? false;
  }

  redraw() {
    this.viewer.forceRedraw();
  }

  destroy() {
    this.viewer.destroy();
  }
}

/** A map of the picture's own shape, at most a fifth of the stage. */
function overviewSize({ width, height }, host) {
  const side = Math.min(OVERVIEW_PX, host.clientWidth / 5, host.clientHeight / 3);
  const scale = side / Math.max(width, height);
  return {
    navigatorWidth: `${Math.round(width * scale)}px`,
    navigatorHeight: `${Math.round(height * scale)}px`,
  };
}
