// Gene query bar: chips of genes with an arrow up (high) or down (low), and as-you-type search.
// Text reaches the page by textContent only. Python stays the judge of what a name means: the bar shows
// what `update` says of each gene, and hands pasted lists to `on.paste`.
//
//   const bar = mount(root, { suggest, on: { change, submit, paste } });
//   bar.update({ terms, sets, placeholder, busy, stamp });
//   bar.destroy();
//
// Terms are taken over once for each stamp. Where the stamp is the text that `on.change` gave, an answer that comes
// after further edits only says of each gene how it stands, and undoes nothing.

const MAX_TERMS = 50; // as in stamp_index/genes/signature.py
const WEIGHTS = [0.001, 1000];
const DEBOUNCE_MS = 60;
const LEVELS = { high: 1, hi: 1, up: 1, "+": 1, low: -1, lo: -1, down: -1, dn: -1, "-": -1 };
const NUMBER = "[+-]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:e[+-]?\\d+)?";
const NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";
const TERM = new RegExp(`^([+-])?\\s*(${NAME})(?:(?:\\s*[:=]\\s*|\\s+)(high|hi|up|low|lo|down|dn|[+-]|${NUMBER})|([+-]))?$`, "i");
const KINDS = { alias: "other name", previous: "former symbol", ensembl: "Ensembl id" };
const STATES = { unknown: "unknown", ambiguous: "ambiguous", unmeasured: "not measured" };
const PATHS = { up: "M6 2 10.5 8H8v3H4V8H1.5z", down: "M6 11 1.5 5H4V2h4v3h2.5z", cross: "M3 3l6 6M9 3l-6 6" };

let bars = 0;

const el = (tag, cls, text) => {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined) node.textContent = text;
  return node;
};

const attributes = (node, named) => {
  Object.entries(named).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
};

const icon = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.append(attributes(document.createElementNS(svg.namespaceURI, "path"), { d: PATHS[name] }));
  return attributes(svg, { viewBox: "0 0 12 13", "aria-hidden": "true" });
};

const button = (cls, label) => {
  const node = el("button", cls);
  node.type = "button";
  if (label) node.setAttribute("aria-label", label);
  return node;
};

const same = (a, b) => a.toLowerCase() === b.toLowerCase();
const word = (weight) => (weight > 0 ? "high" : "low");
const levelText = (weight) => (Math.abs(weight) === 1 ? word(weight) : String(weight));
const textOf = (terms) => terms.map((term) => term.gene + " " + levelText(term.weight)).join(", ");
const plain = (text) => text.replace(/[\u2212\u2010-\u2014]/g, "-").trim();
// What suggestions are asked for while a level may be following.
const nameIn = (text) => plain(text).replace(/^[+-]\s*/, "").split(/[\s:=]/)[0];

// "CD8A low", "-CD8A", "CD8A 2": the gene and its weight, or null.
export const parseTerm = (text) => {
  const match = TERM.exec(plain(text));
  if (!match || !/[a-z]/i.test(match[2])) return null;
  const [, prefix, gene, level, suffix] = match;
  if (prefix && (level || suffix)) return null;
  const said = (prefix || level || suffix || "high").toLowerCase();
  const weight = said in LEVELS ? LEVELS[said] : Number(said);
  const size = Math.abs(weight);
  return size >= WEIGHTS[0] && size <= WEIGHTS[1] ? { gene, weight } : null;
};

const termsIn = (text) => text.split(/[,;\n]/).map(parseTerm).filter(Boolean);

export function mount(root, { suggest, on = {} }) {
  const id = "gq" + ++bars;
  const state = { terms: [], sets: [], stamp: undefined, armed: false, found: [], foundFor: null, active: -1, asked: 0 };
  const settling = new Set();
  const given = new Set(); // texts that `on.change` has had since terms were last taken over
  let timer = null;
  let gone = false;

  const bar = attributes(el("div", "gq"), { role: "group", "aria-label": "Genes to search for" });
  const field = el("div", "gq-field");
  const chips = attributes(el("ul", "gq-chips"), { "aria-label": "Genes" });
  const input = attributes(el("input", "gq-input"), {
    type: "text", role: "combobox", "aria-label": "Add a gene", "aria-autocomplete": "list", "aria-expanded": "false",
    "aria-controls": id + "-list", "aria-describedby": id + "-status", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
  });
  const list = attributes(el("ul", "gq-list"), { role: "listbox", id: id + "-list", "aria-label": "Genes that fit" });
  const offers = attributes(el("div", "gq-offers"), { role: "group", "aria-label": "Names to resolve" });
  const sets = attributes(el("div", "gq-sets"), { role: "group", "aria-label": "Marker sets" });
  const status = attributes(el("p", "gq-status"), { role: "status", id: id + "-status" });
  list.hidden = true;
  field.append(chips, input, list);
  bar.append(field, status, offers, sets);
  root.replaceChildren(bar);

  const say = (text) => { status.textContent = text; };
  const at = (gene) => state.terms.findIndex((term) => same(term.gene, gene));

  // ---- drawing

  const chipOf = (term, index) => {
    const chip = el("li", `gq-chip ${word(term.weight)} ${term.state || "ok"}`);
    chip.dataset.gene = term.gene;
    const last = index === state.terms.length - 1;
    if (state.armed && last) chip.classList.add("armed");
    const says = STATES[term.state] ? ", " + STATES[term.state] : "";
    const level = button("gq-level", `${term.gene} ${levelText(term.weight)}${says}. Make it ${word(-term.weight)}`);
    level.tabIndex = last ? 0 : -1; // one stop for all chips; arrow keys move between them
    level.title = `${word(term.weight)}: click for ${word(-term.weight)}`;
    level.append(icon(term.weight > 0 ? "up" : "down"));
    level.onclick = () => { term.weight = -term.weight; edited(); };
    chip.append(level, el("span", "gq-gene", term.gene));
    if (Math.abs(term.weight) !== 1) chip.append(el("span", "gq-weight", "\u00d7" + Math.abs(term.weight)));
    if (STATES[term.state]) chip.append(el("span", "gq-state", STATES[term.state]));
    const remove = button("gq-remove", "Remove " + term.gene);
    remove.tabIndex = -1;
    remove.append(icon("cross"));
    remove.onclick = () => drop(index);
    chip.append(remove);
    return chip;
  };

  const offerRow = (term) => {
    const row = el("div", "gq-offer");
    const names = term.offers || [];
    const says = term.state === "ambiguous" ? `${term.gene} means several genes.` : `${term.gene} is unknown here.`;
    row.append(el("span", "", names.length ? `${says} Did you mean` : `${says} Correct or remove it.`));
    names.forEach((name) => {
      const choice = button("gq-choice");
      choice.textContent = name;
      choice.onclick = () => { rename(state.terms[at(term.gene)], name); edited(); input.focus(); };
      row.append(choice);
    });
    if (names.length) row.append(el("span", "", "?"));
    return row;
  };

  const inSet = (set) => termsIn(set.text).every((term) => (state.terms[at(term.gene)] || {}).weight === term.weight);

  const setOf = (set) => {
    const node = button("gq-set");
    node.textContent = set.title;
    node.title = set.text;
    node.onclick = () => toggleSet(set);
    return node;
  };

  // Draw anew what differs; the focus stays where it is.
  const draw = () => {
    const focused = Array.from(chips.children).findIndex((chip) => chip.contains(bar.getRootNode().activeElement));
    chips.replaceChildren(...state.terms.map(chipOf));
    if (focused !== -1) focusChip(Math.min(focused, state.terms.length - 1));
    const open = state.terms.filter((term) => term.state === "unknown" || term.state === "ambiguous");
    const key = JSON.stringify(open.map((term) => [term.gene, term.state, term.offers]));
    if (offers.dataset.key !== key) offers.replaceChildren(...open.map(offerRow));
    offers.dataset.key = key;
    offers.hidden = !open.length;
    if (sets.dataset.key !== JSON.stringify(state.sets)) {
      sets.replaceChildren(el("span", "gq-label", "Marker sets"), ...state.sets.map(setOf));
      sets.dataset.key = JSON.stringify(state.sets);
    }
    sets.querySelectorAll(".gq-set").forEach((node, n) => node.setAttribute("aria-pressed", inSet(state.sets[n]) ? "true" : "false"));
    sets.hidden = !state.sets.length;
    input.placeholder = state.terms.length ? "" : state.placeholder || "type a gene, or paste a list";
  };

  const focusChip = (index) => {
    const node = chips.querySelectorAll(".gq-level")[index];
    (node || input).focus();
  };

  // ---- terms

  const edited = () => {
    state.armed = false;
    draw();
    const text = textOf(state.terms);
    given.add(text);
    if (on.change) on.change(text);
  };

  const drop = (index) => {
    const [term] = state.terms.splice(index, 1);
    say(term.gene + " removed.");
    edited();
    input.focus();
  };

  const rename = (term, gene, found) => {
    const other = at(gene);
    if (other !== -1 && state.terms[other] !== term) state.terms.splice(other, 1);
    term.gene = gene;
    term.state = found && found.measured === false ? "unmeasured" : "ok";
    term.offers = [];
  };

  const add = (term) => {
    const there = at(term.gene);
    if (there !== -1) {
      say(`${term.gene} is there already${state.terms[there].weight === term.weight ? "" : "; it is now " + levelText(term.weight)}.`);
      state.terms[there].weight = term.weight;
      return state.terms[there];
    }
    if (state.terms.length >= MAX_TERMS) {
      say(`At most ${MAX_TERMS} genes can be asked for at once.`);
      return null;
    }
    state.terms.push(term);
    return term;
  };

  const toggleSet = (set) => {
    const wanted = termsIn(set.text);
    const missing = wanted.filter((term) => at(term.gene) === -1).length;
    if (inSet(set)) {
      state.terms = state.terms.filter((term) => !wanted.some((other) => same(other.gene, term.gene)));
      say(set.title + " removed.");
    } else if (state.terms.length + missing > MAX_TERMS) {
      say(`${set.title} has ${missing} more genes; at most ${MAX_TERMS} can be asked for at once.`);
      return;
    } else {
      wanted.forEach((term) => add({ ...term, state: "ok", offers: [] }));
      say(set.title + " added.");
    }
    edited();
  };

  // Which suggestion a name stands for; one that only looks like it, or one of several genes that have the name, is
  // never taken unasked.
  const meant = (gene, found, exactly) => {
    const key = gene.toLowerCase();
    const fits = (one) => one.symbol.toLowerCase().startsWith(key) || one.matched.toLowerCase().startsWith(key);
    const named = found.filter((one) => same(one.matched, gene));
    const exact = found.find((one) => same(one.symbol, gene)) || (named.length === 1 ? named[0] : undefined);
    return exact || (exactly || named.length ? undefined : found.find(fits));
  };

  // Make a chip of what was typed; `picked` is a chosen suggestion.
  const commit = (picked, exactly = false) => {
    const text = input.value;
    if (!text.trim()) return;
    const typed = parseTerm(text) || (picked && !/\s/.test(text.trim()) && { gene: picked.symbol, weight: 1 });
    if (!typed) return say("Write a gene, and after it high, low or a number: CD8A low.");
    const known = picked || (state.foundFor === nameIn(text) ? meant(typed.gene, state.found, exactly) : undefined);
    const asks = !known && state.foundFor !== nameIn(text);
    if (known) typed.gene = known.symbol;
    say("");
    const first = at(typed.gene) === -1;
    const term = add({ ...typed, state: known && known.measured === false ? "unmeasured" : "ok", offers: [] });
    if (!term) return;
    input.value = "";
    close();
    if (asks && first) settle(term, exactly);
    else edited();
  };

  // The answer for a name was not there yet when it was ended.
  const settle = (term, exactly) => {
    draw();
    const wait = Promise.resolve(suggest(term.gene)).catch(() => []).then((found) => {
      settling.delete(wait);
      if (gone || !state.terms.includes(term)) return;
      const one = meant(term.gene, found, exactly);
      if (one) rename(term, one.symbol, one);
      edited();
    });
    settling.add(wait);
  };

  const submit = async () => {
    commit();
    await Promise.all(settling);
    if (gone || input.value.trim()) return;
    const open = state.terms.find((term) => term.state === "unknown" || term.state === "ambiguous");
    if (open) {
      say(`${open.gene} is ${STATES[open.state]}: choose a gene for it, or remove it.`);
      (offers.querySelector("button") || input).focus();
    } else if (state.terms.length && on.submit) {
      on.submit(textOf(state.terms));
    } else if (!state.terms.length) {
      say("Name at least one gene.");
    }
  };

  // ---- suggestions

  const close = () => {
    clearTimeout(timer);
    state.asked += 1; // an answer on its way is no longer wanted
    state.found = [];
    state.foundFor = null;
    activate(-1);
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute("aria-expanded", "false");
  };

  const activate = (index) => {
    state.active = index;
    Array.from(list.children).forEach((node, n) => node.setAttribute("aria-selected", n === index ? "true" : "false"));
    const node = list.children[index];
    if (node) {
      input.setAttribute("aria-activedescendant", node.id);
      node.scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  };

  const optionOf = (one, index) => {
    const node = el("li", "gq-option");
    node.id = `${id}-option-${index}`;
    node.setAttribute("role", "option");
    node.append(el("b", "", one.symbol));
    if (one.kind !== "symbol") node.append(el("span", "gq-note", `${one.matched}, ${KINDS[one.kind] || one.kind}`));
    if (one.measured === false) node.append(el("span", "gq-unmeasured", "not measured"));
    node.onpointerdown = (event) => event.preventDefault(); // the input keeps the focus
    node.onclick = () => { commit(one); input.focus(); };
    return node;
  };

  const show = (found, name) => {
    state.found = found;
    state.foundFor = name;
    list.replaceChildren(...found.map(optionOf));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", found.length ? "true" : "false");
    activate(-1);
    if (!found.length) say(`No gene fits ${name}.`);
  };

  const ask = () => {
    clearTimeout(timer);
    const name = nameIn(input.value);
    if (!name) return close();
    const turn = ++state.asked;
    if (state.foundFor !== name) {
      state.foundFor = null; // what is shown is of another text
      activate(-1);
    }
    timer = setTimeout(() => {
      Promise.resolve(suggest(name)).catch(() => null).then((found) => {
        if (gone || turn !== state.asked) return;
        if (found) show(found, name);
        else say("Suggestions cannot be had just now; the gene can be typed in full.");
      });
    }, DEBOUNCE_MS);
  };

  // ---- events

  const backspace = () => {
    if (!state.armed) {
      state.armed = true;
      draw();
      say(`Backspace again removes ${state.terms[state.terms.length - 1].gene}.`);
    } else {
      drop(state.terms.length - 1);
    }
  };

  const move = (step) => {
    const n = list.children.length;
    activate(state.active === -1 ? (step > 0 ? 0 : n - 1) : (state.active + step + n) % n);
  };

  input.onkeydown = (event) => {
    if (event.isComposing) return;
    const { key } = event;
    const open = !list.hidden;
    const picked = state.found[state.active];
    let taken = true;
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    else if (key === "Enter") commit(picked);
    else if (key === "Tab" && !event.shiftKey && open) commit(picked);
    else if (key === "," || key === ";") commit(picked, true);
    else if (key === "Escape" && (open || state.armed)) { state.armed = false; close(); draw(); }
    else if ((key === "ArrowDown" || key === "ArrowUp") && open) move(key === "ArrowDown" ? 1 : -1);
    else if (key === "ArrowDown" && input.value) ask();
    else if (key === "Backspace" && !input.value && state.terms.length) backspace();
    else if (key === "ArrowLeft" && !input.value) focusChip(state.terms.length - 1);
    else taken = false;
    if (taken) {
      event.preventDefault();
      event.stopPropagation();
    } else if (state.armed && !["Shift", "Control", "Alt", "Meta"].includes(key)) {
      state.armed = false;
      draw();
    }
  };
  input.oninput = () => { say(""); ask(); };
  input.onblur = () => { if (state.armed) { state.armed = false; draw(); } close(); };
  input.onpaste = (event) => {
    const text = event.clipboardData.getData("text");
    if (!on.paste || !/[\s,;]/.test(text.trim())) return; // one name is pasted as if typed
    event.preventDefault();
    input.value = "";
    close();
    on.paste(text);
  };
  chips.onkeydown = (event) => {
    const all = Array.from(chips.children);
    const index = all.indexOf(event.target.closest(".gq-chip"));
    const { key } = event;
    const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: all.length - 1 }[key];
    if (to !== undefined) to < 0 ? focusChip(0) : focusChip(to);
    else if (key === "Delete" || key === "Backspace") drop(index);
    else if (key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  field.onclick = (event) => { if (event.target === field || event.target === chips) input.focus(); };

  const take = (terms, stamp) => {
    const fresh = terms.slice(0, MAX_TERMS).map((term) => ({ weight: 1, state: "ok", offers: [], ...term }));
    const late = settling.size > 0 || (given.has(stamp) && stamp !== textOf(state.terms));
    if (late) {
      state.terms.forEach((term) => {
        const answer = fresh.find((other) => same(other.gene, term.gene));
        if (answer) Object.assign(term, { state: answer.state, offers: answer.offers });
      });
      return;
    }
    state.terms = fresh;
    state.armed = false;
    given.clear();
  };

  draw();
  return {
    update(data) {
      if (data.terms && (data.stamp === undefined || data.stamp !== state.stamp)) {
        take(data.terms, data.stamp);
      }
      state.stamp = data.stamp;
      if (data.sets) state.sets = data.sets;
      if (data.placeholder !== undefined) state.placeholder = data.placeholder;
      bar.classList.toggle("busy", Boolean(data.busy));
      bar.setAttribute("aria-busy", data.busy ? "true" : "false");
      draw();
    },
    destroy() {
      gone = true;
      clearTimeout(timer);
      bar.remove();
    },
  };
}
