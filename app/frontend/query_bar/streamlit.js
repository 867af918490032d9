// The query bar inside a Streamlit page: where its suggestions come from, and what goes back to Python.
import { mount } from "./index.js";

const MAX_PASTED = 100_001; // one more than stamp_index/genes/lists.py reads: it says that it is too long
let told = 0;

// Python takes each message once, by this number; the text of an edit stays in the element's state.
const numbered = (message) => ({ n: `${Date.now()}.${++told}`, ...message });

const withStyle = (host, address) =>
  new Promise((done) => {
    const root = host.getRootNode();
    const place = root === document ? document.head : root;
    if (place.querySelector(`link[href="${address}"]`)) return done();
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = address;
    link.onload = link.onerror = done;
    place.append(link);
  });

const suggestOf = (held) => async (name) => {
  const address = new URL(held.data.api + "/genes", window.location.origin);
  address.searchParams.set("q", name);
  address.searchParams.set("t", held.data.token);
  const answer = await fetch(address);
  if (answer.status === 401 || answer.status === 410) held.renew(answer.status);
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 300));
  return answer.json();
};

const opened = async (held, host) => {
  await withStyle(host, held.data.style);
  const say = (text) => held.component.setStateValue("said", numbered({ text }));
  held.bar = mount(host, {
    single: held.data.single,
    suggest: suggestOf(held),
    on: {
      change: say,
      submit: say,
      // pasted once, not kept: the element's whole state goes up at every run of the page
      paste: held.data.single ? undefined : (pasted, text) =>
        held.component.setTriggerValue("pasted", numbered({ pasted: pasted.slice(0, MAX_PASTED), text })),
    },
  });
  held.keys = ({ detail }) => {
    if (detail === "focus-gene") held.bar.focus();
    else if (detail === "run" && !held.data.single) held.bar.submit();
  };
  window.addEventListener("stamp-key", held.keys);
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
  const apply = () => held.bar.update(held.data);
  if (held.bar) apply();
  else if (!held.opening) held.opening = opened(held, host).then(apply);
  clearTimeout(held.leaving);
  return () => {
    // Streamlit cleans up before it calls again: only what is not shown anew is gone for good
    held.leaving = setTimeout(() => {
      if (host.isConnected) return;
      if (held.bar) held.bar.destroy();
      window.removeEventListener("stamp-key", held.keys);
      delete host.__held;
    }, 1000);
  };
}
