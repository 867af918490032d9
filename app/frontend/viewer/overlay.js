/** The one canvas above the picture, redrawn only when the view or what it shows has changed. */

import * as paint from "./paint.js";

const FRAMES_KEPT = 240;

export class Overlay {
  /**
   * @param {Camera} camera
   * @param {object} model what is shown; see viewer.js
   * @param {(screen: object, moved: boolean) => void} drawn called after each drawing
   */
  constructor(camera, model, drawn) {
    this.camera = camera;
    this.model = model;
    this.drawn = drawn;
    this.frames_ms = [];
    this.painter = new paint.SpotPainter();
    this.canvas = document.createElement("canvas");
    this.canvas.className = "si-overlay";
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    camera.viewer.canvas.append(this.canvas); // below the overview, which is a control of the viewer
    this.stale = true;
    this.recolour = true;
    camera.on("update-viewport", () => this.#draw());
  }

  /** Draw at the next frame; `spots` says that the spots' colours may have changed. */
  ask({ spots = false } = {}) {
    this.stale = true;
    this.recolour ||= spots;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  #draw() {
    if (!this.camera.open) return;
    const screen = this.camera.screen();
    const density = window.devicePixelRatio || 1;
    const key = [screen.scale, screen.left, screen.top, screen.width, screen.height, density].join();
    const moved = key !== this.key;
    if (!moved && !this.stale) return;
    const start = performance.now();
    this.key = key;
    this.#resize(screen, density);
    if (this.recolour && this.model.spots) this.model.colours = paint.spotColours(this.model);
    this.painter.draw(this.context, this.model, screen, density, moved || this.recolour);
    this.stale = this.recolour = false;
    this.context.setTransform(density, 0, 0, density, 0, 0);
    drawShapes(this.context, this.model, screen);
    this.frames_ms.push(performance.now() - start);
    if (this.frames_ms.length > FRAMES_KEPT) this.frames_ms.shift();
    this.drawn(screen, moved);
  }

  #resize({ width, height }, density) {
    const [w, h] = [Math.round(width * density), Math.round(height * density)];
    if (this.canvas.width === w && this.canvas.height === h) return;
    this.canvas.width = w;
    this.canvas.height = h;
    this.recolour = true;
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.canvas.remove();
  }
}

/** All that lies above the spots. */
function drawShapes(context, model, screen) {
  const { spots, regions, lasso, draft, marks, picked, selected, hovered } = model;
  paint.drawRegions(context, regions, screen);
  if (lasso) paint.drawLasso(context, lasso, screen);
  if (draft) paint.drawLasso(context, draft, screen, { open: true });
  if (lasso) paint.drawHandles(context, lasso, screen, model.heldVertex);
  paint.drawNames(context, regions, screen);
  paint.drawMarks(context, marks, picked, spots?.radius ?? 0, screen);
  if (!spots) return;
  if (hovered !== null && hovered !== selected) {
    paint.drawSpotRing(context, spots, hovered, screen, { width: 1.5 });
  }
  if (selected !== null && selected < spots.n) paint.drawSpotRing(context, spots, selected, screen);
}
