/** Colours of codes. A colour is an integer 0xffBBGGRR, as a canvas stores it; 0 is "not drawn". */

import { CIVIDIS, VIRIDIS } from "./colour_tables.js";

const OPAQUE = 0xff000000;
const N_CODES = 65536;

/** Ink of spots that have no value to show. */
export const NEUTRAL = pack(0x10, 0x20, 0x2c);

// Okabe and Ito (2008) in their order, without black: it is the ink of outlines.
const OKABE_ITO = ["e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7"];

function pack(red, green, blue) {
  return (OPAQUE | (blue << 16) | (green << 8) | red) >>> 0;
}

function unhex(text) {
  const colours = new Uint32Array(text.length / 6);
  for (let i = 0; i < colours.length; i++) {
    const value = parseInt(text.slice(6 * i, 6 * i + 6), 16);
    colours[i] = pack(value >> 16, (value >> 8) & 255, value & 255);
  }
  return colours;
}

const MAPS = { viridis: unhex(VIRIDIS), cividis: unhex(CIVIDIS) };

/** The 256 colours of a map by name; viridis where the name is none of ours. */
export function colourMap(name) {
  return MAPS[name] || MAPS.viridis;
}

/** A packed colour for CSS. */
export function css(colour, alpha = 1) {
  return `rgba(${colour & 255}, ${(colour >> 8) & 255}, ${(colour >> 16) & 255}, ${alpha})`;
}

/** Colour of category i (from 0): Okabe and Ito's seven, then hues a golden angle apart. */
export function categoryColour(i) {
  if (i < OKABE_ITO.length) return unhex(OKABE_ITO[i])[0];
  const hue = (i * 137.508) % 360;
  const light = [0.42, 0.62, 0.3][i % 3];
  const strength = 0.7 * Math.min(light, 1 - light);
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (light - strength * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return pack(channel(0), channel(8), channel(4));
}

/** Whether zeros mean "not found", as of counts; 0 of a label, which has no unit, is a value. */
export function canHideZeros({ low, unit }) {
  return low === 0 && Boolean(unit);
}

/** The range that a layer shows unless the user says otherwise. */
export function defaultRange({ low, high, p1, p99 }) {
  const start = low === 0 ? 0 : Math.max(low, p1 ?? low);
  const end = p99 ?? high;
  return end > start ? { low: start, high: end } : { low: start, high };
}

/** Value of a code. */
export function valueOf(code, { low, high }) {
  return low + ((code - 1) / (N_CODES - 2)) * (high - low);
}

/**
 * Colours of all codes of a continuous layer.
 * @param {{low: number, high: number}} meta values of codes 1 and 65535
 * @param {{low: number, high: number}} range values of the ends of the map
 * @param {string} palette
 * @param {boolean} zeros whether exact zeros of data that is never negative are drawn
 * @returns {Uint32Array} 65,536 colours
 */
export function continuousColours(meta, range, palette, zeros) {
  const map = colourMap(palette);
  const colours = new Uint32Array(N_CODES);
  const step = (meta.high - meta.low) / (N_CODES - 2);
  const width = range.high - range.low;
  for (let code = 1; code < N_CODES; code++) {
    const share = width > 0 ? (meta.low + (code - 1) * step - range.low) / width : 1;
    colours[code] = map[share <= 0 ? 0 : share >= 1 ? 255 : Math.round(share * 255)];
  }
  if (!zeros && canHideZeros(meta)) colours[1] = 0;
  return colours;
}

/** Colours of all codes of a layer of categories. */
export function categoryColours(n) {
  const colours = new Uint32Array(N_CODES);
  for (let i = 0; i < Math.min(n, N_CODES - 1); i++) colours[i + 1] = categoryColour(i);
  return colours;
}
