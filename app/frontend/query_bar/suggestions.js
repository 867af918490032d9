/** The list of genes that fit what is being typed: a listbox below a combobox. */
import { el } from "./dom.js";
import { nameIn } from "./terms.js";

const DEBOUNCE_MS = 60;
const KINDS = { alias: "other name", previous: "former symbol", ensembl: "Ensembl id" };

/**
 * @param {{input: HTMLInputElement, list: HTMLElement}} nodes of the page; the list has an id
 * @param {(name: string) => Promise<object[]>} suggest
 * @param {{take(one: object): void, say(text: string): void}} act
 */
export function suggestionList({ input, list }, suggest, act) {
  let found = [];
  let foundFor = null;
  let active = -1;
  let asked = 0;
  let timer = null;

  const activate = (index) => {
    active = index;
    Array.from(list.children).forEach((node, n) => node.setAttribute("aria-selected", n === index ? "true" : "false"));
    const node = list.children[index];
    if (node) {
      input.setAttribute("aria-activedescendant", node.id);
      node.scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  };

  const close = () => {
    clearTimeout(timer);
    asked += 1; // an answer on its way is no longer wanted
    found = [];
    foundFor = null;
    activate(-1);
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute("aria-expanded", "false");
  };

  const optionOf = (one, index) => {
    const node = el("li", "gq-option");
    node.id = `${list.id}-${index}`;
    node.setAttribute("role", "option");
    node.append(el("b", "", one.symbol));
    if (one.kind !== "symbol") node.append(el("span", "gq-note", `${one.matched}, ${KINDS[one.kind] || one.kind}`));
    if (one.measured === false) node.append(el("span", "gq-unmeasured", "not measured"));
    node.onpointerdown = (event) => event.preventDefault(); // the input keeps the focus
    node.onclick = () => act.take(one);
    return node;
  };

  const show = (answer, name) => {
    found = answer;
    foundFor = name;
    list.replaceChildren(...found.map(optionOf));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", found.length ? "true" : "false");
    activate(-1);
    if (!found.length) act.say(`No gene fits ${name}.`);
  };

  const ask = () => {
    clearTimeout(timer);
    const name = nameIn(input.value);
    if (!name) return close();
    const turn = ++asked;
    if (foundFor !== name) {
      foundFor = null; // what is shown is of another text
      activate(-1);
    }
    timer = setTimeout(() => {
      Promise.resolve(suggest(name)).catch(() => null).then((answer) => {
        if (turn !== asked) return;
        if (answer) show(answer, name);
        else act.say("Suggestions cannot be had just now; the gene can be typed in full.");
      });
    }, DEBOUNCE_MS);
  };

  const move = (step) => {
    const n = list.children.length;
    activate(active === -1 ? (step > 0 ? 0 : n - 1) : (active + step + n) % n);
  };

  return {
    ask,
    close,
    move,
    isOpen: () => !list.hidden,
    picked: () => found[active],
    /** Suggestions for a name, or null where they have not come yet. */
    of: (name) => (foundFor === name ? found : null),
  };
}
