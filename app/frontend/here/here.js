// The page's address as it is now. Streamlit keeps an address of its own, which does not know of view and lasso:
// the viewer writes these while nothing of the page runs. What that viewer shows is handed to Python.
const SEEN = Symbol.for("stamp-index.seen");

/** Left, top, right and bottom of what the slide's viewer shows, in level-0 pixels; null where there is none. */
const seen = () => {
  const screen = globalThis[SEEN]?.();
  if (!screen) return null;
  const { left, top, width, height, scale } = screen;
  return [left, top, left + width / scale, top + height / scale].map(Math.round);
};

export default function here({ parentElement, data, setStateValue }) {
  const url = new URL(window.location.href);
  for (const name of data.without) url.searchParams.delete(name);
  const box = parentElement.querySelector(".here");
  const button = box.querySelector("button");
  box.hidden = !data.shown;
  box.querySelector("code").textContent = url.href;
  button.textContent = "Copy";
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(url.href);
      button.textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(box.querySelector("code")); // not allowed: at least it is marked
    }
  };
  const now = seen();
  if (JSON.stringify(data.known) !== JSON.stringify(now)) setStateValue("seen", now);
}
