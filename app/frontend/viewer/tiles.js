/** Tiles for OpenSeadragon from a transport; one that cannot be had is grey and says so. */

const PATIENCE_MS = 13_000; // two attempts end before OpenSeadragon gives up by itself, after 30 s
const RETRY_MS = 1_000;

/**
 * Tile source of a picture.
 * @param {object} OpenSeadragon
 * @param {object | null} image width, height, tileSize, overlap, maxLevel; null: a source of no tiles
 * @param {{width: number, height: number}} frame size where there is no picture
 * @param {object} transport `tileUrl` or `tile`
 */
export function tileSource(OpenSeadragon, image, frame, transport) {
  const { width, height, tileSize = 256, overlap = 0, maxLevel } = image || frame;
  const options = { width, height, tileSize, tileOverlap: overlap, minLevel: 0 };
  const source = new OpenSeadragon.TileSource({ ...options, ...(image ? { maxLevel } : {}) });
  source.getTileUrl = (level, x, y) =>
    transport.tileUrl && image ? transport.tileUrl(level, x, y) : `tile:${level}/${x}_${y}`;
  source.hasTransparency = () => false;
  source.downloadTileStart = (job) => start(job, source, transport);
  source.downloadTileAbort = (job) => {
    job.userData.stopped = true;
  };
  if (!image) source.tileExists = () => false;
  return source;
}

async function start(job, source, transport) {
  const { level, x, y } = job.tile;
  const once = () =>
    transport.tileUrl ? imageAt(transport.tileUrl(level, x, y)) : bitmapOf(transport.tile(level, x, y));
  let answer = null;
  for (let attempt = 0; attempt < 2 && !answer && !job.userData.stopped; attempt++) {
    if (attempt) await new Promise((go) => setTimeout(go, RETRY_MS));
    answer = await withPatience(once).catch(() => null);
  }
  if (job.userData.stopped) return;
  if (answer) job.finish(answer.data, null, answer.type);
  else job.finish(greyTile(source.getTileWidth(level), source.getTileHeight(level)), null, "context2d");
}

function withPatience(promised) {
  let timer;
  const tooLong = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error("no answer")), PATIENCE_MS);
  });
  return Promise.race([promised(), tooLong]).finally(() => clearTimeout(timer));
}

function imageAt(url) {
  return new Promise((done, fail) => {
    const image = new Image();
    image.onload = () => done({ data: image, type: "image" });
    image.onerror = () => fail(new Error("no picture"));
    image.src = url;
  });
}

async function bitmapOf(promised) {
  return { data: await createImageBitmap(await promised), type: "imageBitmap" };
}

function greyTile(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#dfe3e6";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#5b6b76";
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText("tile unavailable", width / 2, height / 2);
  return context;
}
