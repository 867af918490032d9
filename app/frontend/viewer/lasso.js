/** Drawing and editing the lasso, and clicks, on top of OpenSeadragon's own mouse handling. */

import { nearestEdge, simplifyRing } from "./geometry.js";
import { handles } from "./paint.js";

const MOST_VERTICES = 500; // that Python accepts
const GRAB_PX = 8;
const LEAST_PX = 4; // a smaller lasso is a slip of the hand

export class Tools {
  /**
   * @param {Camera} camera
   * @param {object} model reads `tool`; writes `draft`, `heldVertex` and, while a vertex moves, `lasso`
   * @param {object} act
   * @param {(polygon: number[][] | null) => void} act.lasso a lasso is drawn or edited
   * @param {(x: number, y: number) => void} act.click on the stage, in screen px
   * @param {() => void} act.redraw
   */
  constructor(camera, model, act) {
    Object.assign(this, { camera, model, act });
    this.mode = null;
    this.panning = false; // the space bar is held
    camera.on("canvas-press", (event) => this.#press(event));
    camera.on("canvas-drag", (event) => this.#drag(event));
    camera.on("canvas-drag-end", (event) => this.#end(event));
    camera.on("canvas-release", () => {
      this.model.heldVertex = null;
      this.act.redraw();
    });
    camera.on("canvas-click", (event) => {
      if (event.quick && !this.edited) this.act.click(event.position.x, event.position.y);
    });
  }

  /** The vertex of the lasso under a place on the screen, or null. */
  vertexAt(x, y) {
    if (!this.model.lasso) return null;
    const near = handles(this.model.lasso, this.camera.screen())
      .map((handle) => ({ ...handle, far: Math.hypot(handle.x - x, handle.y - y) }))
      .filter(({ far }) => far <= GRAB_PX)
      .sort((a, b) => a.far - b.far)[0];
    return near ? near.vertex : null;
  }

  /** The vertex of the lasso whose line to the next one runs under a place on the screen, or null. */
  edgeAt(x, y) {
    if (!this.model.lasso) return null;
    const { edge, distance2 } = nearestEdge(...this.camera.toSlide(x, y), this.model.lasso);
    return Math.sqrt(distance2) * this.camera.screen().scale <= GRAB_PX ? edge : null;
  }

  #press({ position, originalEvent }) {
    this.mode = null;
    this.edited = false;
    this.box = null;
    if (this.panning || originalEvent.button > 0) return;
    const vertex = this.vertexAt(position.x, position.y);
    const edge = originalEvent.altKey ? this.edgeAt(position.x, position.y) : null;
    if (vertex !== null && originalEvent.altKey) {
      this.#remove(vertex);
    } else if (edge !== null) {
      this.#add(edge, position);
    } else if (vertex !== null) {
      this.mode = "vertex";
      this.model.heldVertex = vertex;
      this.act.redraw();
    } else if (this.model.tool !== "pan") {
      this.mode = this.model.tool;
      this.points = [this.camera.toSlide(position.x, position.y)];
    }
  }

  #remove(vertex) {
    this.edited = true;
    if (this.model.lasso.length > 3) this.act.lasso(this.model.lasso.filter((_, i) => i !== vertex));
  }

  /** Put a vertex on the line after `edge`; a drag goes on with it. */
  #add(edge, { x, y }) {
    this.edited = true;
    if (this.model.lasso.length >= MOST_VERTICES) return;
    const point = this.camera.toSlide(x, y).map(Math.round);
    this.act.lasso(this.model.lasso.toSpliced(edge + 1, 0, point));
    this.mode = "vertex";
    this.model.heldVertex = edge + 1;
  }

  #drag(event) {
    if (this.edited) event.preventDefaultAction = true;
    if (!this.mode) return;
    event.preventDefaultAction = true;
    const point = this.camera.toSlide(event.position.x, event.position.y);
    if (this.mode === "vertex") {
      this.model.lasso = this.model.lasso.slice();
      this.model.lasso[this.model.heldVertex] = point.map(Math.round);
    } else if (this.mode === "lasso") {
      this.points.push(point);
      this.model.draft = this.points;
    } else {
      const [[x0, y0]] = this.points;
      const [x1, y1] = point;
      this.box = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]; // prettier-ignore
      this.model.draft = [...this.box, this.box[0]];
    }
    this.act.redraw();
  }

  #end(event) {
    if (!this.mode) return;
    event.preventDefaultAction = true;
    const mode = this.mode;
    this.mode = null;
    this.model.draft = null;
    this.model.heldVertex = null;
    if (mode === "vertex") this.act.lasso(this.model.lasso);
    else this.#finish(mode === "box" ? this.box : this.points);
    this.act.redraw();
  }

  #finish(points) {
    const { scale } = this.camera.screen();
    const side = (i) => Math.max(...points.map((p) => p[i])) - Math.min(...points.map((p) => p[i]));
    if (!points || Math.max(side(0), side(1)) * scale < LEAST_PX) return;
    const polygon = simplifyRing(points, 1 / scale, MOST_VERTICES);
    if (polygon) this.act.lasso(polygon);
  }

  /** Drop a drawing that is under way; says whether there was one. */
  cancel() {
    const under = this.model.draft !== null;
    this.mode = null;
    this.model.draft = null;
    this.model.heldVertex = null;
    return under;
  }
}
