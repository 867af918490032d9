/** The viewer in a notebook: an anywidget whose bytes come as messages of the kernel. */

import OpenSeadragon from "../openseadragon.js";
import { mount } from "./index.js";

const WAIT_MS = 1_500; // before it is said that the kernel has not answered
const AGAIN_MS = 400;
const TILE_MS = 13_000; // tiles.js asks twice, with a pause of 1 s; OpenSeadragon itself gives up after 30 s
const GIVEN_UP_MS = 2 * TILE_MS + 1_000;

/** Questions to the kernel. Every view of a widget hears all answers: an id says whose they are. */
class Kernel {
  /**
   * @param {object} model of anywidget
   * @param {object} on `waiting(bool)`; `late()` after an answer that tiles no longer waited for
   */
  constructor(model, on) {
    Object.assign(this, { model, on });
    this.name = Math.random().toString(36).slice(2);
    this.asked = new Map(); // by id
    this.n = 0;
    this.hear = (message, buffers) => this.#answered(message, buffers);
    model.on("msg:custom", this.hear);
  }

  /** Ask; who asks for the same again while it is awaited gets the same answer. */
  ask(question) {
    const text = JSON.stringify(question);
    for (const one of this.asked.values()) if (one.text === text) return one.promise;
    const id = `${this.name}.${++this.n}`;
    const one = { text, since: performance.now() };
    one.promise = new Promise((done, fail) => Object.assign(one, { done, fail }));
    this.asked.set(id, one);
    this.model.send({ ...question, id });
    this.timer ??= setTimeout(() => this.on.waiting(true), WAIT_MS);
    return one.promise;
  }

  #answered(message, buffers = []) {
    const one = this.asked.get(message?.id);
    if (!one) return;
    this.asked.delete(message.id);
    clearTimeout(this.timer);
    this.on.waiting(false);
    this.timer = this.asked.size ? setTimeout(() => this.on.waiting(true), WAIT_MS) : null;
    if (message.error) one.fail(new Error(message.error));
    else one.done({ ...message, buffer: buffers.length ? bytesOf(buffers[0]) : null });
    if (performance.now() - one.since > GIVEN_UP_MS) this.on.late();
  }

  stop() {
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.hear);
    for (const { fail } of this.asked.values()) fail(new Error("the viewer is closed"));
    this.asked.clear();
  }
}

/** A buffer of a message as an ArrayBuffer of its own; front ends give it or a view of a larger one. */
function bytesOf(held) {
  if (held instanceof ArrayBuffer) return held;
  return held.buffer.slice(held.byteOffset, held.byteOffset + held.byteLength);
}

function withPatience(promised, most_ms) {
  let timer;
  const tooLong = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error("the kernel is busy")), most_ms);
  });
  return Promise.race([promised, tooLong]).finally(() => clearTimeout(timer));
}

function transportOf(kernel, model) {
  const key = () => model.get("_shown").key;
  return {
    tile: async (level, column, row) => {
      const asked = kernel.ask({ ask: "tile", key: key(), level, column, row });
      const { buffer } = await withPatience(asked, TILE_MS);
      return new Blob([buffer], { type: "image/jpeg" });
    },
    bytes: async (path) => {
      const { buffer, meta } = await kernel.ask({ ask: "bytes", key: key(), path });
      return { buffer, meta: meta || {} };
    },
    json: async (path) => (await kernel.ask({ ask: "json", key: key(), path })).json,
  };
}

/** Box that is seen, [left, top, right, bottom] in level-0 px, of a view {x, y, zoom}; and back. */
const stageOf = (host) => host.querySelector(".si-stage");
const boxOf = ({ x, y, zoom }, stage) => {
  const [wide, high] = [stage.clientWidth / zoom / 2, stage.clientHeight / zoom / 2];
  return [x - wide, y - high, x + wide, y + high];
};
const focusOf = ([left, top, right, bottom], stamp, stage) => {
  const width_px = Math.max(right - left, ((bottom - top) * stage.clientWidth) / Math.max(stage.clientHeight, 1));
  return { x: (left + right) / 2, y: (top + bottom) / 2, width_px, stamp };
};

class NotebookViewer {
  constructor(model, host) {
    Object.assign(this, { model, host, lasso: {}, openings: 0, box: null, focus: null });
    this.waiting = document.createElement("div");
    this.waiting.textContent = "Waiting for the kernel";
    this.waiting.setAttribute("role", "status");
    this.waiting.hidden = true;
    this.waiting.style.cssText =
      "position:absolute;right:12px;top:48px;padding:3px 9px;border-radius:4px;background:#fff;color:#5b6b76;" +
      "font:12px system-ui,sans-serif;box-shadow:0 0 0 1px #dde4e8;pointer-events:none;z-index:1";
    this.kernel = new Kernel(model, {
      waiting: (is) => {
        this.waiting.hidden = !is;
      },
      late: () => this.#reopen(),
    });
    this.view = mount(host, {
      OpenSeadragon,
      transport: transportOf(this.kernel, model),
      drawer: "canvas", // a browser has some 16 WebGL contexts, and a notebook may show more slides
      on: {
        lasso: (polygon) => this.#say("lasso", polygon),
        spot: (index) => this.#say("spot", index),
        region: (id) => this.#say("outline", id),
        state: ({ view }) => {
          if (!view) return;
          this.box = boxOf(view, stageOf(host));
          this.#say("view", this.box);
        },
      },
    });
    host.append(this.waiting);
    this.apply = () => this.#apply();
    model.on("change:_shown", this.apply);
    this.#apply();
  }

  #say(said, value) {
    const by = `${this.kernel.name}:${++this.kernel.n}`;
    this.model.send({ said, value, by, key: this.model.get("_shown").key });
  }

  #apply() {
    const shown = this.model.get("_shown");
    if (shown.key !== this.key) Object.assign(this, { key: shown.key, openings: 0, box: null, focus: null });
    this.host.style.height = `${shown.height}px`;
    // what was drawn here comes back from Python; meanwhile the user may have drawn on
    const mine = String(shown.lassoStamp).startsWith(`${this.kernel.name}:`);
    if (!mine) this.lasso = { lasso: shown.lasso, lassoStamp: shown.lassoStamp };
    if (shown.boxStamp !== this.boxStamp) {
      this.boxStamp = shown.boxStamp;
      this.focus = shown.box ? focusOf(shown.box, shown.boxStamp, stageOf(this.host)) : this.focus;
    }
    const key = this.openings ? `${shown.key}+${this.openings}` : shown.key;
    this.view.update({ ...shown, ...this.lasso, focus: this.focus, key });
  }

  /** Open again at the same place: some tiles were given up while the kernel was busy. */
  #reopen() {
    clearTimeout(this.reopening);
    this.reopening = setTimeout(() => {
      const { lasso, lassoStamp } = this.model.get("_shown");
      this.lasso = { lasso, lassoStamp };
      this.openings++;
      if (this.box) this.focus = focusOf(this.box, `again${this.openings}`, stageOf(this.host));
      this.#apply();
    }, AGAIN_MS);
  }

  destroy() {
    clearTimeout(this.reopening);
    this.model.off("change:_shown", this.apply);
    this.kernel.stop();
    this.view.destroy();
    this.waiting.remove();
  }
}

export default {
  render({ model, el }) {
    const host = document.createElement("div");
    host.className = "si-host";
    host.style.position = "relative";
    // in JupyterLab, letters typed on a cell's output are commands: B adds a cell, D twice deletes it
    host.setAttribute("data-lm-suppress-shortcuts", "true");
    el.append(host);
    const shown = new NotebookViewer(model, host);
    return () => {
      shown.destroy();
      host.remove();
    };
  },
};
