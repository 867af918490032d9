/** What lies under the pointer: spots with a card, regions, vertices. */

import { insideRings, nearestEdge } from "./geometry.js";

const NEAR_PX = 6; // a pointer this near to a spot's centre or a region's outline is on it

/**
 * The spot at a place on the stage.
 * @returns {number | null} its index
 */
export function spotAt({ spots, spotsShown }, camera, x, y) {
  if (!spots || !spotsShown) return null;
  const [slideX, slideY] = camera.toSlide(x, y);
  return spots.nearest(slideX, slideY, Math.max(spots.radius, NEAR_PX / camera.screen().scale));
}

/**
 * The region or spot that a click means: an outline first, then a spot, then a region's inside.
 * @returns {{region: object | null, spot: number | null}}
 */
export function clicked(model, camera, x, y) {
  const place = camera.toSlide(x, y);
  const near = NEAR_PX / camera.screen().scale;
  const isNear = (ring) => nearestEdge(...place, ring).distance2 <= near * near;
  const outlined = topRegion(model.regions, (rings) => rings.some(isNear));
  if (outlined) return { region: outlined, spot: null };
  const spot = spotAt(model, camera, x, y);
  if (spot !== null) return { region: null, spot };
  return { region: topRegion(model.regions, (rings) => insideRings(...place, rings)), spot: null };
}

/** The last drawn region, and so the uppermost, whose rings fit. */
function topRegion(regions, fits) {
  for (let i = regions.length - 1; i >= 0; i--) {
    if (fits(regions[i].polygons)) return regions[i];
  }
  return null;
}

/** Follows the pointer over the stage. */
export class Pointing {
  /**
   * @param {object} viewer stage, canvasHost, card, model, and camera and tools while a slide is open
   * @param {() => void} redraw
   */
  constructor(viewer, redraw) {
    Object.assign(this, { viewer, redraw });
    viewer.stage.addEventListener("pointermove", (event) => this.#move(event));
    viewer.stage.addEventListener("pointerleave", () => this.leave());
  }

  #move(event) {
    const { canvasHost, camera, tools, model, card, stage } = this.viewer;
    const path = event.composedPath();
    const overview = camera?.viewer.navigator?.element;
    if (!tools || !path.includes(canvasHost) || path.includes(overview)) return this.leave();
    const area = canvasHost.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    stage.classList.toggle("si-on-vertex", tools.vertexAt(x, y) !== null);
    const index = event.buttons ? null : spotAt(model, camera, x, y);
    this.#on(index);
    card.point(index, () => camera.toScreen(...model.spots.at(index)));
  }

  #on(index) {
    const { model } = this.viewer;
    if (index === model.hovered) return;
    model.hovered = index;
    this.redraw();
  }

  leave() {
    this.viewer.card.point(null);
    this.#on(null);
  }
}
