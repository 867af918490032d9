/** Viewers of one group keep the same physical zoom. */

// The page's modules may be loaded twice (two components): the list lies on the page, not here.
const KEY = Symbol.for("stamp-index.viewer.groups");

function members(group) {
  const groups = (globalThis[KEY] ??= new Map());
  if (!groups.has(group)) groups.set(group, new Set());
  return groups.get(group);
}

/** One viewer's place in a group. */
export class Link {
  #group = null;

  /**
   * @param {object} viewer
   * @param {() => number | null} viewer.umPerPx where its zoom will end; null while nothing is open
   * @param {(value: number) => void} viewer.follow go to a zoom without telling of it
   */
  constructor(viewer) {
    this.viewer = viewer;
  }

  /** Join a group, or leave all (`null`); a newcomer takes the zoom that the group has. */
  set(link) {
    const group = link?.on ? link.group : null;
    if (group !== this.#group) {
      this.leave();
      this.#group = group;
      if (group !== null) members(group).add(this);
    }
  }

  /** Take the zoom of the others, if there are any. */
  align() {
    for (const other of this.#others()) {
      const value = other.viewer.umPerPx();
      if (value === null) continue;
      this.viewer.follow(value);
      return;
    }
  }

  /** Tell the others of a zoom. */
  tell() {
    const value = this.viewer.umPerPx();
    if (value === null) return;
    for (const other of this.#others()) other.viewer.follow(value);
  }

  #others() {
    if (this.#group === null) return [];
    return [...members(this.#group)].filter((member) => member !== this);
  }

  leave() {
    if (this.#group === null) return;
    members(this.#group).delete(this);
    if (!members(this.#group).size) globalThis[KEY].delete(this.#group);
    this.#group = null;
  }
}
