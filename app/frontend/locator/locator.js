// A picture with a square that can be put elsewhere: click, drag or arrow keys. Positions are
// shares of the picture (0..1); Python turns them into pixels and microns.
export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const box = parentElement.querySelector(".box");
  const img = parentElement.querySelector("img");
  const cross = parentElement.querySelector(".mark");
  const bar = parentElement.querySelector(".bar");
  const label = parentElement.querySelector(".barlabel");
  const state = (box.__stamp = box.__stamp || { key: null, x: 0.5, y: 0.5 });

  const clamp = (value, half) => Math.min(Math.max(value, half), 1 - half);
  const show = () => {
    cross.style.left = state.x * 100 + "%";
    cross.style.top = state.y * 100 + "%";
  };
  const move = (x, y) => {
    state.x = clamp(x, data.half[0]);
    state.y = clamp(y, data.half[1]);
    show();
  };
  const send = () => {
    const at = { key: data.key, x: Number(state.x.toFixed(5)), y: Number(state.y.toFixed(5)) };
    setStateValue("at", at);
  };
  const fromEvent = (event) => {
    const area = img.getBoundingClientRect();
    move((event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
  };

  if (state.key !== data.key) {
    state.key = data.key;
    img.src = data.src;
    img.alt = data.alt;
    box.setAttribute("aria-label", data.help);
    bar.style.width = data.bar.share * 100 + "%";
    label.textContent = data.bar.label;
    cross.className = "mark " + data.shape;
    if (data.shape === "square") {
      cross.style.width = data.half[0] * 200 + "%";
      cross.style.height = data.half[1] * 200 + "%";
    } else {
      cross.style.width = cross.style.height = "";
    }
  }
  if (state.stamp !== data.stamp) {
    // Python placed the mark (a new picture, a typed spot id): follow it
    state.stamp = data.stamp;
    move(data.at[0], data.at[1]);
  }

  box.onpointerdown = (event) => {
    event.preventDefault();
    box.focus();
    box.setPointerCapture(event.pointerId);
    state.drag = true;
    fromEvent(event);
  };
  box.onpointermove = (event) => {
    if (state.drag) fromEvent(event);
  };
  box.onpointerup = () => {
    if (!state.drag) return;
    state.drag = false;
    send();
  };
  box.onpointercancel = () => {
    state.drag = false;
  };
  box.onkeydown = (event) => {
    const step = event.shiftKey ? 5 : 1;
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    move(state.x + way[0] * step * data.step[0], state.y + way[1] * step * data.step[1]);
    clearTimeout(state.timer); // a held key is one query at its end, not thirty
    state.timer = setTimeout(send, 250);
  };
  box.dataset.ready = data.key;
  return () => clearTimeout(state.timer);
}
