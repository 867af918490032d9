/** Polygons and distances, in whatever unit the points have. */

/** Squared distance of (x, y) to the stretch from a to b. */
export function distanceToSegment2(x, y, [ax, ay], [bx, by]) {
  const dx = bx - ax;
  const dy = by - ay;
  const length2 = dx * dx + dy * dy;
  const along = length2 ? Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length2)) : 0;
  return (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2;
}

/**
 * Index of the vertices of a line that Douglas and Peucker's rule keeps (1973).
 * @param {number[][]} points
 * @param {number} tolerance greatest distance of a point that is left out
 * @returns {number[][]} a part of the points, with the first and the last
 */
export function simplifyLine(points, tolerance) {
  if (points.length < 3) return points.slice();
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const stack = [[0, points.length - 1]];
  while (stack.length) {
    const [first, last] = stack.pop();
    let worst = tolerance * tolerance;
    let at = -1;
    for (let i = first + 1; i < last; i++) {
      const distance2 = distanceToSegment2(points[i][0], points[i][1], points[first], points[last]);
      if (distance2 > worst) {
        worst = distance2;
        at = i;
      }
    }
    if (at < 0) continue;
    keep[at] = 1;
    stack.push([first, at], [at, last]);
  }
  return points.filter((_, i) => keep[i]);
}

/** The points rounded to integers, without the neighbours that fell together. */
function rounded(points) {
  const out = [];
  for (const [x, y] of points) {
    const point = [Math.round(x), Math.round(y)];
    const last = out[out.length - 1];
    if (!last || last[0] !== point[0] || last[1] !== point[1]) out.push(point);
  }
  const [first, last] = [out[0], out[out.length - 1]];
  if (out.length > 1 && first[0] === last[0] && first[1] === last[1]) out.pop();
  return out;
}

/**
 * A drawn ring as a polygon of few integer vertices, not closed.
 * @param {number[][]} points
 * @param {number} tolerance in the unit of the points; raised by half until `most` vertices are left
 * @param {number} most
 * @returns {number[][] | null} null where less than a triangle is left
 */
export function simplifyRing(points, tolerance, most) {
  if (points.length < 3) return null;
  let ring = rounded(simplifyLine(points, tolerance));
  for (let wider = tolerance * 1.5; ring.length > most; wider *= 1.5) {
    ring = rounded(simplifyLine(points, wider));
  }
  return ring.length < 3 ? null : ring;
}

/**
 * Whether a point lies in a polygon, by the even-odd rule (shapely's `make_valid` agrees).
 * @param {number} x
 * @param {number} y
 * @param {number[][]} polygon
 */
export function contains(x, y, polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

/** Whether a point lies in a shape of outer rings and holes: inside an odd number of them. */
export function insideRings(x, y, rings) {
  return rings.filter((ring) => contains(x, y, ring)).length % 2 === 1;
}

/**
 * The side of a polygon that is nearest to a point.
 * @returns {{edge: number, distance2: number}} the vertex at which the side begins, and the squared distance
 */
export function nearestEdge(x, y, polygon) {
  let [edge, distance2] = [polygon.length - 1, Infinity];
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const here = distanceToSegment2(x, y, polygon[j], polygon[i]);
    if (here < distance2) [edge, distance2] = [j, here];
  }
  return { edge, distance2 };
}

/**
 * The greatest of 1, 2, 5, 10, 20, 50, ... that is not above a number.
 * @param {number} most above 0
 */
export function niceBelow(most) {
  const power = 10 ** Math.floor(Math.log10(most) + 1e-9);
  for (const step of [5, 2]) if (step * power <= most * (1 + 1e-9)) return step * power;
  return power;
}

/** Middle {x, y} of the box around a polygon; nothing of none. */
export function middleOf(polygon) {
  if (!polygon) return {};
  const [xs, ys] = [polygon.map(([x]) => x), polygon.map(([, y]) => y)];
  return { x: (Math.min(...xs) + Math.max(...xs)) / 2, y: (Math.min(...ys) + Math.max(...ys)) / 2 };
}
