// The viewer inside a Streamlit page: addresses of tiles, state in the page's address, and what goes back to Python.
import { mount } from "./index.js";
import { el } from "./dom.js";
import { readState, writeState } from "./address.js";

const absolute = (path) => new URL(path, window.location.origin).href;

const transportOf = (held) => {
  const address = (path) => {
    const url = new URL(held.data.api + "/" + path, window.location.origin);
    url.searchParams.set("t", held.data.token);
    return url.href;
  };
  const fetched = async (path) => {
    const answer = await fetch(address(path));
    if (answer.status === 401 || answer.status === 410) held.renew(answer.status);
    if (!answer.ok) throw new Error((await answer.text()).slice(0, 300));
    return answer;
  };
  return {
    tileUrl: (level, column, row) => address(`tiles/${level}/${column}_${row}.jpg`),
    bytes: async (path) => {
      const answer = await fetched(path);
      const meta = JSON.parse(answer.headers.get("X-Meaning") || "{}");
      return { buffer: await answer.arrayBuffer(), meta };
    },
    json: async (path) => (await fetched(path)).json(),
  };
};

const withStyle = (host, address) => {
  const root = host.getRootNode();
  const place = root === document ? document.head : root;
  if (place.querySelector(`link[href="${address}"]`)) return;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  place.append(link);
};

// The address names a spot by its id, which the server knows; an answer that a later click overtook is dropped.
let named = 0;
const nameSpot = async (transport, index) => {
  const page = window.location.pathname;
  const mine = ++named;
  const card = index === null ? null : await transport.json(`spots/${index}`).catch(() => null);
  if (mine === named && window.location.pathname === page) writeState({ spot: card?.spot_id ?? "" });
};

// What the viewer of the page's address shows, for who asks for it on the same page: see frontend/here.
const SEEN = Symbol.for("stamp-index.seen");

const opened = async (held, host) => {
  const { default: OpenSeadragon } = await import(absolute(held.data.openseadragon));
  const drawer = new URLSearchParams(window.location.search).get("drawer") || "auto";
  const say = (name, value) => held.component.setStateValue(name, { key: held.data.key, value });
  let state = {};
  const page = window.location.pathname;
  const transport = transportOf(held);
  // An address from elsewhere means the slide that it opens on, whatever is chosen later.
  if (held.data.inAddress && held.data.lasso) writeState({ poly: held.data.lasso, slide: held.data.label });
  if (held.data.inAddress) globalThis[SEEN] = () => (host.isConnected ? host.__stamp.screen() : null);
  held.view = mount(host, {
    OpenSeadragon,
    drawer,
    transport,
    on: {
      lasso: (polygon) => {
        if (held.data.inAddress) writeState({ ...state, poly: polygon, slide: held.data.label });
        say("lasso", polygon);
      },
      spot: (index) => {
        say("spot", index);
        if (held.data.inAddress) nameSpot(transport, index);
      },
      region: (id) => say("outline", id),
      state: (now) => {
        state = { ...state, ...now };
        if (held.data.inAddress && window.location.pathname === page) writeState(now); // not into the next page's
      },
      key: (name) => window.dispatchEvent(new CustomEvent("stamp-key", { detail: name })),
    },
  });
};

// Called at every run of the page, with new data for the same element.
export function show(component, host) {
  const held = (host.__held = host.__held || {});
  held.component = component;
  held.data = component.data;
  held.renew = (status) => {
    if (held.renewed === held.data.token + status) return; // one new run for each token that has run out
    held.renewed = held.data.token + status;
    component.setTriggerValue("renew", Date.now());
  };
  withStyle(host, held.data.style);
  host.style.height = held.data.height;
  if (held.data.missing) {
    host.replaceChildren(el("div", { class: "si-viewer" }, el("p", { class: "si-missing", text: held.data.missing })));
    return () => {};
  }
  const apply = () => {
    const initial = held.data.inAddress ? readState() : {};
    held.view.update({ ...held.data, state: { ...(held.data.state || {}), ...initial } });
  };
  if (held.view) apply();
  else if (!held.opening) held.opening = opened(held, host).then(apply);
  clearTimeout(held.leaving);
  return () => {
    // Streamlit cleans up before it calls again: only what is not shown anew is gone for good
    held.leaving = setTimeout(() => {
      if (host.isConnected) return;
      if (held.view) held.view.destroy();
      delete host.__held;
    }, 1000);
  };
}
