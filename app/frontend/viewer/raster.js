/** Small spots written straight into pixels: a million of them in one frame. */

const PHASES = 4; // steps of a pixel at which a spot's centre is drawn
const DOT = 0.75; // radius in pixels below which a spot is one pixel
const RING_PX = 1.1; // width of the outline of a spot without a value

/** Pixels of a canvas of the size that was last asked for. */
export class Raster {
  #sprites = { key: "", list: [] };

  constructor() {
    this.width = this.height = 0;
  }

  /** Take a size in pixels and make everything transparent. */
  clear(width, height) {
    if (width !== this.width || height !== this.height) {
      Object.assign(this, { width, height });
      this.image = new ImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.best = null;
    } else {
      this.pixels.fill(0);
    }
  }

  /**
   * Write spots.
   * @param {object} scene
   * @param {Spots} scene.spots
   * @param {number[]} scene.stretches of the spots that may be seen
   * @param {{scale: number, left: number, top: number}} scene.view pixels per level-0 px and the
   *   level-0 place of the upper left corner
   * @param {Uint32Array} scene.colours colour with alpha of each sorted spot, 0 for none
   * @param {Uint16Array | null} scene.ranks which of several spots on one pixel shows: the highest
   * @param {boolean} scene.outline rings instead of discs
   * @returns {{drawn: number, shared: number}} spots written, and those of them that are one pixel
   *   and found it taken
   */
  write(scene) {
    const radius = scene.spots.radius * scene.view.scale;
    if (radius < DOT) return this.#dots(scene);
    const square = scene.spots.shape === "square";
    if (square && !scene.outline) return this.#squares(scene, radius);
    return this.#stamps(scene, this.#spritesOf(radius, square, scene.outline));
  }

  /** One pixel a spot. */
  #dots({ spots, stretches, view, colours, ranks }) {
    const { width, height, pixels } = this;
    const { xs, ys } = spots;
    const { scale, left, top } = view;
    const best = (this.best ??= new Uint16Array(pixels.length));
    best.fill(0);
    let drawn = 0;
    let shared = 0;
    for (let s = 0; s < stretches.length; s += 2) {
      for (let k = stretches[s]; k < stretches[s + 1]; k++) {
        const x = (xs[k] - left) * scale;
        const y = (ys[k] - top) * scale;
        if (x < 0 || y < 0 || x >= width || y >= height) continue;
        const colour = colours[k];
        if (colour === 0) continue;
        const p = (y | 0) * width + (x | 0);
        drawn++;
        if (pixels[p] !== 0) shared++;
        if (ranks !== null) {
          if (ranks[k] < best[p]) continue;
          best[p] = ranks[k];
        }
        pixels[p] = colour;
      }
    }
    return { drawn, shared };
  }

  /** Filled squares with edges on whole pixels: bins side by side leave no seam. */
  #squares({ spots, stretches, view, colours }, radius) {
    const { width, height, pixels } = this;
    const { scale, left, top } = view;
    let drawn = 0;
    for (let s = 0; s < stretches.length; s += 2) {
      for (let k = stretches[s]; k < stretches[s + 1]; k++) {
        const x = (spots.xs[k] - left) * scale;
        const y = (spots.ys[k] - top) * scale;
        const x0 = Math.max(Math.round(x - radius), 0);
        const x1 = Math.min(Math.round(x + radius), width);
        const y0 = Math.max(Math.round(y - radius), 0);
        const y1 = Math.min(Math.round(y + radius), height);
        if (x0 >= x1 || y0 >= y1) continue;
        const colour = colours[k];
        if (colour === 0) continue;
        drawn++;
        for (let row = y0 * width; row < y1 * width; row += width) {
          for (let p = row + x0; p < row + x1; p++) pixels[p] = colour;
        }
      }
    }
    return { drawn, shared: 0 };
  }

  /** Discs or outlines from ready pixels; on a rim the more opaque of two neighbours stays. */
  #stamps({ spots, stretches, view, colours }, { sprites, reach }) {
    const { width, height } = this;
    const { scale, left, top } = view;
    let drawn = 0;
    for (let s = 0; s < stretches.length; s += 2) {
      for (let k = stretches[s]; k < stretches[s + 1]; k++) {
        const x = (spots.xs[k] - left) * scale;
        const y = (spots.ys[k] - top) * scale;
        if (x < -reach || y < -reach || x >= width + reach || y >= height + reach) continue;
        const colour = colours[k];
        if (colour === 0) continue;
        drawn++;
        const px = Math.floor(x);
        const py = Math.floor(y);
        const sprite = sprites[Math.floor((y - py) * PHASES) * PHASES + Math.floor((x - px) * PHASES)];
        if (px >= reach && py >= reach && px < width - reach && py < height - reach) {
          this.#stampWhole(sprite, py * width + px, colour);
        } else {
          this.#stampCut(sprite, px, py, colour);
        }
      }
    }
    return { drawn, shared: 0 };
  }

  #stampWhole({ full, rim, cover }, at, colour) {
    const pixels = this.pixels;
    for (let i = 0; i < full.length; i++) pixels[at + full[i]] = colour;
    const alpha = colour >>> 24;
    const base = colour & 0xffffff;
    for (let i = 0; i < rim.length; i++) {
      const thin = (alpha * cover[i]) >> 8;
      const p = at + rim[i];
      if (thin > pixels[p] >>> 24) pixels[p] = (base | (thin << 24)) >>> 0;
    }
  }

  #stampCut({ cells }, px, py, colour) {
    const { width, height, pixels } = this;
    const alpha = colour >>> 24;
    for (let i = 0; i < cells.length; i += 3) {
      const x = px + cells[i];
      const y = py + cells[i + 1];
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const thin = (alpha * cells[i + 2]) >> 8;
      const p = y * width + x;
      if (thin >= pixels[p] >>> 24) pixels[p] = ((colour & 0xffffff) | (thin << 24)) >>> 0;
    }
  }

  #spritesOf(radius, square, outline) {
    const key = `${radius} ${square} ${outline} ${this.width}`;
    if (this.#sprites.key !== key) {
      const sprites = [];
      for (let i = 0; i < PHASES * PHASES; i++) {
        const centre = [((i % PHASES) + 0.5) / PHASES, (Math.floor(i / PHASES) + 0.5) / PHASES];
        sprites.push(spriteOf(radius, centre, { square, outline, width: this.width }));
      }
      this.#sprites = { key, sprites, reach: Math.ceil(radius) + 2 };
    }
    return this.#sprites;
  }
}

/** Pixels that a spot covers: whole ones, and the rim's with their cover (0 to 256). */
function spriteOf(radius, [cx, cy], { square, outline, width }) {
  const reach = Math.ceil(radius) + 1;
  const [full, rim, cover, cells] = [[], [], [], []];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const [x, y] = [Math.abs(dx + 0.5 - cx), Math.abs(dy + 0.5 - cy)];
      const distance = square ? Math.max(x, y) : Math.hypot(x, y);
      let share = share01(radius - distance + 0.5);
      if (outline && radius > RING_PX) share -= share01(radius - RING_PX - distance + 0.5);
      const amount = Math.round(share * 256);
      if (amount <= 0) continue;
      cells.push(dx, dy, amount);
      if (amount >= 256) full.push(dy * width + dx);
      else {
        rim.push(dy * width + dx);
        cover.push(amount);
      }
    }
  }
  return {
    full: Int32Array.from(full),
    rim: Int32Array.from(rim),
    cover: Uint16Array.from(cover),
    cells: Int32Array.from(cells),
  };
}

function share01(value) {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}
