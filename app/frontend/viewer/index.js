/**
 * The slide viewer: a picture in deep zoom, spots at their true size, a lasso.
 *
 * It knows nothing of addresses or of the page around it: all bytes come through `transport`, all
 * that the user does goes out through `on`. OpenSeadragon 6.1.1 is given by the caller, who also puts
 * `viewer.css` into the document or shadow root that holds `root`.
 */

import { SlideViewer } from "./viewer.js";

/**
 * Put a viewer into an element.
 *
 * @param {HTMLElement} root emptied of nothing; gets one child of class `si-viewer`
 * @param {object} options
 * @param {object} options.OpenSeadragon
 * @param {object} options.transport
 *   `tileUrl(level, col, row)` -> address, or `tile(level, col, row)` -> Promise<Blob>;
 *   `bytes(path)` -> Promise<{buffer: ArrayBuffer, meta: object}>;
 *   `json(path)` -> Promise<object>
 * @param {"auto" | "canvas"} [options.drawer] "canvas" where there is no graphics card
 * @param {object} [options.on] `lasso(polygon | null)`, `spot(index | null)`, `region(id)`,
 *   `state(object)`, `key(name)`; each may be left out
 * @returns {{update: (data: object) => void, destroy: () => void}}
 */
export function mount(root, { OpenSeadragon, transport, drawer = "auto", on = {} }) {
  const viewer = new SlideViewer(root, { OpenSeadragon, transport, drawer, on });
  return {
    update: (data) => viewer.update(data),
    destroy: () => viewer.destroy(),
  };
}
