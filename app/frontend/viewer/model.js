/** What a viewer shows: the parts read it, viewer.js and the user's tools write it. */

/** What is drawn and what the user set, of a viewer that shows nothing yet. */
export function emptyModel() {
  const shown = { spotOpacity: 0.6, imageOpacity: 1, spotsShown: true };
  const drawn = { lasso: null, draft: null, heldVertex: null, tool: "pan" };
  const pointed = { marks: [], picked: null, regions: [], selected: null, hovered: null };
  return { spots: null, layer: null, colours: null, mask: null, inside: 0, ...shown, ...drawn, ...pointed };
}

/** What "fit" shows of a slide without a picture: its spots and a margin. */
export function frameOf(spots) {
  const { left, top, right, bottom } = spots.bounds;
  const margin = 0.05 * Math.max(right - left, bottom - top) + 2 * spots.radius;
  const [width, height] = [right - left + 2 * margin, bottom - top + 2 * margin];
  return { x: left - margin, y: top - margin, width, height };
}
