/** What is seen as a picture with twice the pixels, scale bar and legend. */

import { Camera } from "./camera.js";
import { drawLegend } from "./legend.js";
import { drawShapes } from "./overlay.js";
import { SpotPainter } from "./paint.js";
import { drawBar } from "./scalebar.js";

const DENSITY = 2;
const PATIENCE_MS = 10_000;

/**
 * @param {object} viewer OpenSeadragon, camera, model, slide {image, frame}, transport, mpp, root
 * @returns {Promise<Blob>} PNG
 */
export async function figure(viewer) {
  const { camera, model } = viewer;
  const screen = camera.screen();
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(screen.width * DENSITY);
  canvas.height = Math.round(screen.height * DENSITY);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (viewer.slide.image) await drawTissue(context, viewer, screen);
  const layer = document.createElement("canvas");
  Object.assign(layer, { width: canvas.width, height: canvas.height });
  new SpotPainter().draw(layer.getContext("2d"), model, screen, DENSITY, true);
  context.drawImage(layer, 0, 0);
  context.setTransform(DENSITY, 0, 0, DENSITY, 0, 0);
  drawShapes(context, model, screen, { handles: false });
  drawBar(context, screen.scale, viewer.mpp, 12, screen.height - 12);
  if (model.layer) drawLegend(context, model.layer, screen.width - 12, screen.height - 12);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** The tissue drawn by a second, hidden viewer of twice the size, so that finer tiles are taken. */
async function drawTissue(context, { OpenSeadragon, slide, transport, model, root }, screen) {
  const density = OpenSeadragon.pixelDensityRatio || 1;
  const host = document.createElement("div");
  host.className = "si-offscreen";
  host.style.width = `${(screen.width * DENSITY) / density}px`;
  host.style.height = `${(screen.height * DENSITY) / density}px`;
  root.append(host);
  const large = new Camera(OpenSeadragon, host, { ...slide, drawer: "canvas", overview: false }, transport);
  try {
    await large.opened;
    const { scale, left, top, width, height } = screen;
    const middle = { x: left + width / scale / 2, y: top + height / scale / 2 };
    large.show({ ...middle, zoom: (scale * DENSITY) / density }, true);
    await settled(large);
    context.globalAlpha = model.imageOpacity;
    context.drawImage(large.viewer.drawer.canvas, 0, 0, context.canvas.width, context.canvas.height);
    context.globalAlpha = 1;
  } finally {
    large.destroy();
    host.remove();
  }
}

async function settled(camera) {
  const end = performance.now() + PATIENCE_MS;
  let calm = 0; // frames in a row: a tile that has come is drawn one frame later
  while (calm < 3 && performance.now() < end) {
    await new Promise((next) => setTimeout(next, 30));
    calm = camera.settled ? calm + 1 : 0;
  }
}
