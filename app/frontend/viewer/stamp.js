/** What tests may ask of a viewer, as `root.__stamp`. */

export function testHandle(viewer) {
  const { model } = viewer;
  return {
    ready: false,
    /** Milliseconds of the last 240 drawings of the overlay. */
    get frames_ms() {
      return viewer.overlay?.frames_ms ?? [];
    },
    /** Place of a spot in the page's window, px, and its radius there. */
    spotAt(index) {
      const [x, y] = viewer.camera.toScreen(...model.spots.at(index));
      const area = viewer.canvasHost.getBoundingClientRect();
      const radius = model.spots.radius * viewer.camera.screen().scale;
      return { x: area.left + x, y: area.top + y, radius };
    },
    /** Level-0 place of a point of the window. */
    slideAt(clientX, clientY) {
      const area = viewer.canvasHost.getBoundingClientRect();
      return viewer.camera.toSlide(clientX - area.left, clientY - area.top);
    },
    view: () => viewer.camera.view(),
    screen: () => viewer.camera.screen(),
    umPerPx: () => (viewer.data.mpp || 1) / viewer.camera.view().zoom,
    lasso: () => model.lasso,
    tool: () => model.tool,
    selected: () => model.selected,
    layer: () => model.layer?.name ?? null,
    /** Nothing moves, loads or waits to be drawn. */
    settled() {
      const { camera, content, overlay } = viewer;
      if (!overlay || content.pending.layer || overlay.stale || (viewer.data.image && !camera.settled)) return false;
      const [now, end] = [camera.screen(), camera.screen(false)];
      const moving = Math.hypot(now.left - end.left, now.top - end.top) * end.scale;
      return moving < 0.2 && Math.abs(now.scale / end.scale - 1) < 1e-4;
    },
    counts: () => ({
      regions: viewer.model.regions.length,
      spots: model.spots?.n ?? 0,
      placed: model.spots?.placed ?? 0,
      drawn: viewer.overlay?.painter.drawn ?? 0,
      inside: model.inside,
      openings: viewer.session,
    }),
    /** Draw the overlay anew, pixels and all. */
    redraw: () => viewer.overlay.ask({ spots: true }),
  };
}
