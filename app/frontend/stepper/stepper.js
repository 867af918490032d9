// The picked one of several hits: two buttons, and the keys N and P, which a viewer of the page tells as "stamp-key".
export default function stepper({ parentElement, data, setTriggerValue }) {
  const box = parentElement.querySelector(".steps");
  const state = (box.__stamp = box.__stamp || {});
  const [previous, next] = [box.querySelector(".previous"), box.querySelector(".next")];

  const show = () => {
    box.querySelector(".at").textContent = `#${state.picked} of ${data.n}`;
    previous.disabled = state.picked <= 1;
    next.disabled = state.picked >= data.n;
  };
  // Shown before Python answers, so that quick presses add up.
  const step = (by) => {
    const to = Math.min(Math.max(state.picked + by, 1), data.n);
    if (to === state.picked) return;
    state.picked = to;
    show();
    setTriggerValue("step", { key: data.key, rank: to });
  };
  previous.onclick = () => step(-1);
  next.onclick = () => step(1);

  const fromViewer = ({ detail }) => {
    const by = { next: 1, previous: -1 }[detail];
    if (by && box.isConnected) step(by);
  };
  window.removeEventListener("stamp-key", state.listener);
  state.listener = fromViewer;
  window.addEventListener("stamp-key", fromViewer);

  state.picked = data.picked;
  show();
  return () => window.removeEventListener("stamp-key", fromViewer);
}
