/** The keys of the viewer, as QuPath has them; off while somebody types. */

import { el } from "./dom.js";

const ACTIVE = Symbol.for("stamp-index.viewer.active"); // of all viewers on the page: the last touched
const PAN_PX = 80;

/** What the help dialog lists: key, meaning. */
export const HELP = [
  ["Wheel", "zoom at the pointer"],
  ["Drag", "pan; with Lasso or Box: draw"],
  ["Double-click", "zoom in"],
  ["Click", "pick a spot or a region"],
  ["Space held", "pan with any tool"],
  ["V", "pan"],
  ["L", "lasso"],
  ["B", "box"],
  ["Esc", "clear the lasso"],
  ["Drag a vertex", "edit the lasso; Alt-click removes a vertex, or adds one on the line"],
  ["0", "fit the slide"],
  ["1", "one screen pixel per slide pixel"],
  ["+  -", "zoom in, out"],
  ["Arrows", "pan"],
  ["Shift Up / Down", "zoom in, out"],
  ["S", "spots on, off"],
  ["Enter", "centre on the picked spot"],
  ["G", "go to the gene box"],
  ["N  P", "next, previous hit"],
  ["M", "mark"],
  ["Ctrl Enter", "run"],
  ["?", "this list"],
];

const LETTERS = { l: "lasso", b: "box", v: "pan", s: "spots", 0: "fit", 1: "one", "+": "in", "=": "in", "-": "out", _: "out", escape: "clear", "?": "help" }; // prettier-ignore
const PAGE = { g: "focus-gene", n: "next", p: "previous", m: "mark" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Listen to the keys of a viewer.
 * @param {HTMLElement} element of the viewer
 * @param {object} act `tool(name)`, `clear()`, `fit()`, `one()`, `zoom(factor)`, `pan(dx, dy)`,
 *   `spots()`, `centre()`, `hold(bool)` for the space bar, `page(name)` for keys of the page
 * @returns {() => void} stop listening
 */
export function listenKeys(element, act) {
  const me = { over: false, held: false };
  const claim = () => {
    globalThis[ACTIVE] = me;
  };
  const enter = () => {
    me.over = true;
    claim();
  };
  const leave = () => {
    me.over = false;
  };
  const release = () => {
    if (me.held) act.hold(false);
    me.held = false;
  };
  const down = (event) => {
    const path = event.composedPath();
    const within = path.includes(element);
    if (event.defaultPrevented || !(within || me.over) || globalThis[ACTIVE] !== me) return;
    if (element.querySelector("dialog[open]")) return;
    const rest = within || path[0] === document.body || path[0] === document.documentElement;
    if (handle(event, kindOf(path[0]), rest, act, me)) event.preventDefault();
  };
  const up = (event) => {
    if (event.key === " ") release();
  };
  const pairs = [
    [element, "pointerenter", enter],
    [element, "pointermove", enter],
    [element, "pointerleave", leave],
    [element, "focusin", claim],
    [window, "keydown", down],
    [window, "keyup", up],
    [window, "blur", release],
  ];
  for (const [target, name, run] of pairs) target.addEventListener(name, run);
  return () => {
    for (const [target, name, run] of pairs) target.removeEventListener(name, run);
    if (globalThis[ACTIVE] === me) delete globalThis[ACTIVE];
  };
}

/** "text" where keys are typed, "control" where space and arrows have a use, else "free". */
function kindOf(target) {
  if (!(target instanceof Element)) return "free";
  const tag = target.tagName;
  if (tag === "INPUT") return /^(range|checkbox|radio|button|submit|reset)$/.test(target.type) ? "control" : "text";
  if (tag === "TEXTAREA" || tag === "SELECT" || target.isContentEditable) return "text";
  if (/^(textbox|combobox|searchbox|spinbutton)$/.test(target.getAttribute("role"))) return "text";
  const listed = /^(listbox|option)$/.test(target.getAttribute("role")); // arrows and Enter are theirs
  return listed || tag === "BUTTON" || tag === "A" || tag === "SUMMARY" ? "control" : "free";
}

/** Do what a key asks for; says whether it was one of ours. */
function handle(event, kind, rest, act, me) {
  if (kind === "text" || event.metaKey || event.altKey) return false;
  if (event.ctrlKey) return event.key === "Enter" ? (act.page("run"), true) : false;
  const key = event.key.toLowerCase();
  const name = LETTERS[key];
  if (name) return plainKey(name, act);
  if (PAGE[key]) return act.page(PAGE[key]), true;
  if (kind === "control" || !rest) return false;
  const way = ARROWS[event.key];
  if (way && event.shiftKey && way[1]) act.zoom(way[1] < 0 ? 1.5 : 1 / 1.5);
  else if (way) act.pan(way[0] * PAN_PX, way[1] * PAN_PX);
  else if (event.key === "Enter") act.centre();
  else if (event.key === " ") hold(me, act);
  else return false;
  return true;
}

function plainKey(name, act) {
  if (name === "in") act.zoom(1.5);
  else if (name === "out") act.zoom(1 / 1.5);
  else if (["lasso", "box", "pan"].includes(name)) act.tool(name);
  else act[name]();
  return true;
}

function hold(me, act) {
  if (!me.held) act.hold(true);
  me.held = true;
}

/** A dialog that lists the keys. */
export function helpDialog() {
  const rows = HELP.map(([key, meaning]) =>
    el("tr", {}, el("th", { scope: "row" }, el("kbd", { text: key })), el("td", { text: meaning })),
  );
  const dialog = el("dialog", { class: "si-help", "aria-label": "Keys and mouse" });
  const close = el("button", { type: "button", class: "si-button", text: "Close", onclick: () => dialog.close() });
  dialog.append(el("h2", { text: "Keys and mouse" }), el("table", {}, el("tbody", {}, ...rows)), close);
  return dialog;
}
