/** Fetches spots and layers into the model; of several answers only that to the last question counts. */

import { Layer } from "./layer.js";
import { Spots } from "./spots.js";

const NOTHING = { n: 0, diameter: 1, shape: "circle" };

export class Content {
  /**
   * @param {object} transport
   * @param {object} model gets `spots` and `layer`
   * @param {object} on
   * @param {() => void} on.spots the spots are there
   * @param {() => void} on.layer the layer, or none, is there
   * @param {(topic: "spots" | "layer", sentence: string | null) => void} on.problem null: none any more
   */
  constructor(transport, model, on) {
    Object.assign(this, { transport, model, on });
    this.forget();
  }

  /** Nothing is asked for any more. */
  forget() {
    this.asked = { spots: null, layer: null };
    this.pending = { spots: false, layer: false };
    this.wanted = null; // the layer to show
  }

  /** Fetch the places of spots; null for a slide without any. */
  async spots(wanted) {
    const { n, path, diameter, shape } = wanted || NOTHING;
    await this.#ask("spots", "The spots", async () => {
      const xy = path ? new Float32Array((await this.transport.bytes(path)).buffer) : new Float32Array(0);
      if (xy.length !== 2 * n) throw new Error(`${xy.length / 2} places came for ${n} spots`);
      return new Spots(xy, { diameter, shape });
    });
  }

  /** Fetch a layer; null for none. The one that is shown stays until its successor is there. */
  async layer(wanted) {
    this.wanted = wanted;
    const { spots } = this.model;
    if (!spots || this.pending.spots) return; // asked again when they are there
    await this.#ask("layer", wanted?.name, async () =>
      wanted ? new Layer(wanted, await this.transport.bytes(wanted.path), spots) : null,
    );
  }

  async #ask(topic, name, load) {
    const question = {};
    this.asked[topic] = question;
    this.pending[topic] = true;
    let problem = null;
    let answer = null;
    try {
      answer = await load();
    } catch (error) {
      problem = `${name} could not be loaded: ${error.message}`;
    }
    if (this.asked[topic] !== question) return;
    this.pending[topic] = false;
    this.model[topic] = answer ?? (topic === "spots" ? new Spots(new Float32Array(0), NOTHING) : null);
    this.on.problem(topic, problem);
    if (topic === "spots") this.#newSpots();
    else this.on.layer();
  }

  #newSpots() {
    this.model.layer = null; // its codes are in the order of the old spots
    this.on.spots();
    this.layer(this.wanted);
  }
}
