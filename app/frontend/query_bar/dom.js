/** Small pieces of HTML. Text reaches the page by textContent only. */

const PATHS = { up: "M6 2 10.5 8H8v3H4V8H1.5z", down: "M6 11 1.5 5H4V2h4v3h2.5z", cross: "M3 3l6 6M9 3l-6 6" };

export const el = (tag, cls, text) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined) node.textContent = text;
  return node;
};

export const attributes = (node, named) => {
  Object.entries(named).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
};

export const icon = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.append(attributes(document.createElementNS(svg.namespaceURI, "path"), { d: PATHS[name] }));
  return attributes(svg, { viewBox: "0 0 12 13", "aria-hidden": "true" });
};

export const button = (cls, label) => {
  const node = el("button", cls);
  node.type = "button";
  if (label) node.setAttribute("aria-label", label);
  return node;
};
