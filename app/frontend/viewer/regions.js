/** Which region a place belongs to. */

import { contains, distanceToRing2 } from "./geometry.js";

/**
 * The region whose outline is within reach of a point, or with `inside` also one that holds it.
 * The last one drawn lies on top and is taken first.
 */
export function regionAt(regions, [x, y], reach, { inside }) {
  for (let i = regions.length - 1; i >= 0; i--) {
    for (const polygon of regions[i].polygons) {
      if (distanceToRing2(x, y, polygon) <= reach * reach) return regions[i];
      if (inside && contains(x, y, polygon)) return regions[i];
    }
  }
  return null;
}
