// Gallery of patches. Text reaches the page by textContent only; the default function is called
// again at every rerun, so it keeps its state on the element and rebuilds only for other hits.
const el = (tag, cls, text) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined) node.textContent = text;
  return node;
};

const geneRow = (gene) => {
  const row = el("div", "gene " + gene.side + " " + gene.kind);
  row.title = gene.title;
  row.append(el("i", "arrow"), el("span", "sym", gene.gene), el("span", "val", gene.value));
  const track = el("span", "track");
  const fill = el("span", "fill");
  fill.style.width = gene.share + "%";
  track.append(fill);
  row.append(track, el("span", "pct", gene.percentile));
  return row;
};

// Genes without a value share a line for each reason.
const unknownRows = (genes) => {
  const reasons = new Map();
  genes.forEach((gene) => reasons.set(gene.value, [...(reasons.get(gene.value) || []), gene]));
  return Array.from(reasons, ([value, all]) => {
    const row = el("div", "none", all.map((gene) => gene.gene).join(", ") + ": ");
    row.append(el("i", "", value));
    row.title = all.map((gene) => gene.title).join("\n");
    return row;
  });
};

// A flag, drawn: a mark must not be told by colour alone.
const flag = () => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "flag");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M3 1.5v13M3 2.5h9.5l-2.2 3 2.2 3H3");
  svg.append(path);
  return svg;
};

const tileOf = (tile, data) => {
  const bar = data.bar;
  const node = el("button", "tile");
  node.type = "button";
  node.dataset.rank = tile.rank;
  node.dataset.spot = tile.spot;
  node.setAttribute("role", "option");
  node.setAttribute("aria-label", tile.alt);
  const frame = el("span", "frame");
  if (tile.row !== null) {
    const img = el("img");
    img.alt = tile.alt;
    img.src = `${data.api}/patches/${tile.row}.jpg?t=${encodeURIComponent(data.token)}`;
    img.decoding = "async";
    img.onerror = () => img.replaceWith(el("span", "nopic", "picture unavailable"));
    const line = el("span", "bar");
    line.style.width = bar.share * 100 + "%";
    frame.append(img, line, el("span", "barlabel", bar.label));
  } else {
    frame.append(el("span", "nopic", "no picture stored"));
  }
  if (tile.mark) frame.append(el("span", "mark", tile.mark));
  frame.append(flag());
  const head = el("span", "head");
  head.append(el("b", "", "#" + tile.rank), el("span", "score", "cosine " + tile.score));
  const slide = el("span", "slide", tile.organ ? `${tile.slide} · ${tile.organ}` : tile.slide);
  slide.title = [tile.slide, tile.organ, tile.patient].filter(Boolean).join(" · ");
  node.append(frame, head, slide);
  const known = tile.genes.filter((gene) => gene.kind !== "unknown");
  node.append(...known.map(geneRow));
  node.append(...unknownRows(tile.genes.filter((gene) => gene.kind === "unknown")));
  if (tile.note) node.append(el("span", "note", tile.note));
  if (tile.more) node.append(el("span", "more", tile.more));
  return node;
};

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  const grid = parentElement.querySelector(".grid");
  const state = (grid.__stamp = grid.__stamp || { key: null, picked: 1 });
  const tiles = () => Array.from(grid.querySelectorAll(".tile"));

  const mark = (rank) => {
    state.picked = rank;
    tiles().forEach((node) => {
      const mine = Number(node.dataset.rank) === rank;
      node.setAttribute("aria-selected", mine ? "true" : "false");
      node.tabIndex = mine ? 0 : -1;
    });
  };
  const showMarks = () => {
    const marked = new Set(data.marked);
    tiles().forEach((node) => {
      const is = marked.has(node.dataset.spot);
      node.classList.toggle("marked", is);
      const tile = data.tiles[Number(node.dataset.rank) - 1];
      node.setAttribute("aria-label", tile.alt + (is ? ", marked" : ""));
    });
  };
  const toggle = (rank) => setTriggerValue("mark", { key: state.key, rank });
  const pick = (node) => {
    mark(Number(node.dataset.rank));
    setStateValue("picked", { key: state.key, rank: state.picked });
  };
  const perRow = (all) => {
    const top = all[0].offsetTop;
    const next = all.findIndex((node) => node.offsetTop > top);
    return next === -1 ? all.length : next;
  };

  grid.onclick = (event) => {
    const node = event.target.closest(".tile");
    if (node) pick(node);
  };
  grid.onkeydown = (event) => {
    const all = tiles();
    const at = all.indexOf(event.target.closest(".tile"));
    if (at === -1) return;
    const row = perRow(all);
    if (event.key === " " || event.key === "m" || event.key === "M") {
      event.preventDefault();
      toggle(at + 1);
      return;
    }
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
    let to = null;
    if (step !== undefined) to = at + step;
    if (event.key === "Home") to = 0;
    if (event.key === "End") to = all.length - 1;
    if (to === null) return; // Enter presses the button by itself
    event.preventDefault();
    if (to < 0 || to >= all.length) return;
    all[at].tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  };

  // Keys of the viewer beside: next and previous hit, mark.
  const fromViewer = ({ detail }) => {
    if (!grid.isConnected) return;
    const to = { next: state.picked + 1, previous: state.picked - 1 }[detail];
    if (detail === "mark") toggle(state.picked);
    const node = to && grid.querySelector(`.tile[data-rank="${to}"]`);
    if (!node) return;
    pick(node);
    node.scrollIntoView({ block: "nearest" });
  };
  window.removeEventListener("stamp-key", state.listener);
  state.listener = fromViewer;
  window.addEventListener("stamp-key", fromViewer);

  if (state.key !== data.key) {
    const moved = state.key !== null;
    state.key = data.key;
    grid.replaceChildren(...data.tiles.map((tile) => tileOf(tile, data)));
    mark(data.picked);
    if (moved) grid.scrollTop = 0;
  }
  showMarks();
  grid.dataset.ready = data.key;
}
