// Gene query bar: chips of genes with an arrow up (high) or down (low), and as-you-type search.
// Text reaches the page by textContent only. Python stays the judge of what a name means: the bar shows
// what `update` says of each gene, and hands pasted lists to `on.paste`.
//
//   const bar = mount(root, { suggest, on: { change, submit, paste }, single });
//   bar.update({ terms, sets, placeholder, label, rest, busy, stamp });
//   bar.focus(); bar.submit(); bar.destroy();
//
// `change` and `submit` get the terms as text, `paste` what was pasted and that text. With `single` there is one gene
// without a direction, and typing replaces it; the text is then its name.
// Terms are taken over once for each stamp. Where the stamp is the text that `on.change` gave, an answer that comes
// after further edits only says of each gene how it stands, and undoes nothing. `rest` is what of a text is no term: it
// stands in the field, to be edited.
import { chipOf, offerRows, setOf } from "./chips.js";
import { attributes, el } from "./dom.js";
import { suggestionList } from "./suggestions.js";
import { MAX_TERMS, STATES, isOpen, levelText, meant, nameIn, parseTerm, same, termsIn, textOf } from "./terms.js";

let bars = 0;

const inputOf = (id, single) =>
  attributes(el("input", "gq-input"), {
    type: "text", role: "combobox", "aria-label": single ? "Gene" : "Add a gene", "aria-autocomplete": "list", "aria-expanded": "false",
    "aria-controls": id + "-list", "aria-describedby": id + "-status", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
  });

export function mount(root, { suggest, on = {}, single = false }) {
  const id = "gq" + ++bars;
  const state = { terms: [], sets: [], stamp: undefined, armed: false, rest: "" };
  const settling = new Set();
  const given = new Set(); // texts that `on.change` has had since terms were last taken over
  let gone = false;

  const bar = attributes(el("div", single ? "gq single" : "gq"), { role: "group", "aria-label": single ? "Gene" : "Genes to search for" });
  const label = el("div", "gq-title");
  const field = el("div", "gq-field");
  const chips = attributes(el("ul", "gq-chips"), { "aria-label": "Genes" });
  const input = inputOf(id, single);
  const list = attributes(el("ul", "gq-list"), { role: "listbox", id: id + "-list", "aria-label": "Genes that fit" });
  const offers = attributes(el("div", "gq-offers"), { role: "group", "aria-label": "Names to resolve" });
  const sets = attributes(el("div", "gq-sets"), { role: "group", "aria-label": "Marker sets" });
  const status = attributes(el("p", "gq-status"), { role: "status", id: id + "-status" });
  list.hidden = true;
  label.hidden = true;
  field.append(chips, input, list);
  bar.append(label, field, status, offers, sets);
  root.replaceChildren(bar);

  const say = (text) => { status.textContent = text; };
  const at = (gene) => state.terms.findIndex((term) => same(term.gene, gene));
  const text = () => (single ? (state.terms[0] || { gene: "" }).gene : textOf(state.terms));
  const found = suggestionList({ input, list }, suggest, { take: (one) => { commit(one); input.focus(); }, say: (words) => gone || say(words) });

  // ---- drawing

  const drawChip = (term, index) =>
    chipOf(term, { armed: state.armed, last: index === state.terms.length - 1, single }, {
      flip: () => { term.weight = -term.weight; edited(); },
      drop: () => drop(index),
    });

  const choose = (term, name) => { rename(state.terms[at(term.gene)], name); edited(); input.focus(); };
  const inSet = (set) => termsIn(set.text).every((term) => (state.terms[at(term.gene)] || {}).weight === term.weight);

  // Draw anew what differs; the focus stays where it is.
  const draw = () => {
    const focused = Array.from(chips.children).findIndex((chip) => chip.contains(bar.getRootNode().activeElement));
    chips.replaceChildren(...state.terms.map(drawChip));
    if (focused !== -1) focusChip(Math.min(focused, state.terms.length - 1));
    const open = single ? [] : state.terms.filter(isOpen);
    const key = JSON.stringify(open.map((term) => [term.gene, term.state, term.offers]));
    if (offers.dataset.key !== key) offers.replaceChildren(...offerRows(open, choose));
    offers.dataset.key = key;
    offers.hidden = !open.length;
    if (sets.dataset.key !== JSON.stringify(state.sets)) {
      sets.replaceChildren(el("span", "gq-label", "Marker sets"), ...state.sets.map((set) => setOf(set, toggleSet)));
      sets.dataset.key = JSON.stringify(state.sets);
    }
    sets.querySelectorAll(".gq-set").forEach((node, n) => node.setAttribute("aria-pressed", inSet(state.sets[n]) ? "true" : "false"));
    sets.hidden = !state.sets.length;
    const more = single ? "" : "add a gene";
    input.placeholder = state.terms.length ? more : state.placeholder || "type a gene, or paste a list";
  };

  const focusChip = (index) => {
    const node = chips.querySelectorAll(".gq-level")[index];
    (node || input).focus();
  };

  // ---- terms

  const edited = () => {
    state.armed = false;
    draw();
    given.add(text());
    if (on.change) on.change(text());
  };

  const drop = (index) => {
    const [term] = state.terms.splice(index, 1);
    say(term.gene + " removed.");
    edited();
    input.focus();
  };

  const rename = (term, gene, known) => {
    const other = at(gene);
    if (other !== -1 && state.terms[other] !== term) state.terms.splice(other, 1);
    term.gene = gene;
    term.asked = "";
    term.state = known && known.measured === false ? "unmeasured" : "ok";
    term.offers = [];
  };

  const add = (term) => {
    if (single) {
      state.terms = [{ ...term, weight: 1 }];
      return state.terms[0];
    }
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

  // Make a chip of what was typed; `picked` is a chosen suggestion.
  const commit = (picked, exactly = false) => {
    const typing = input.value;
    if (!typing.trim()) return;
    const typed = parseTerm(typing) || (picked && !/\s/.test(typing.trim()) && { gene: picked.symbol, weight: 1 });
    if (!typed && on.paste && /[,;]/.test(typing)) return paste(typing); // several terms, of a link that was no query
    if (!typed) return say(single ? "Write the name of one gene." : "Write a gene, and after it high, low or a number: CD8A low.");
    const here = found.of(nameIn(typing));
    const known = picked || (here ? meant(typed.gene, here, exactly) : undefined);
    if (known) typed.gene = known.symbol;
    say("");
    const first = at(typed.gene) === -1;
    const term = add({ ...typed, state: known && known.measured === false ? "unmeasured" : "ok", offers: [] });
    if (!term) return;
    input.value = "";
    found.close();
    if (!known && !here && first) settle(term, exactly);
    else edited();
  };

  // The answer for a name was not there yet when it was ended.
  const settle = (term, exactly) => {
    draw();
    const wait = Promise.resolve(suggest(term.gene)).catch(() => []).then((answer) => {
      settling.delete(wait);
      if (gone || !state.terms.includes(term)) return;
      const one = meant(term.gene, answer, exactly);
      if (one) rename(term, one.symbol, one);
      edited();
    });
    settling.add(wait);
  };

  const paste = (pasted) => {
    input.value = "";
    found.close();
    on.paste(pasted, text());
  };

  const submit = async () => {
    commit();
    await Promise.all(settling);
    if (gone || input.value.trim()) return;
    const open = state.terms.find(isOpen);
    if (open) {
      say(`${open.gene} is ${STATES[open.state]}: choose a gene for it, or remove it.`);
      (offers.querySelector("button") || input).focus();
    } else if (state.terms.length && on.submit) {
      on.submit(text());
    } else if (!state.terms.length) {
      say("Name at least one gene.");
    }
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

  input.onkeydown = (event) => {
    if (event.isComposing) return;
    const { key } = event;
    const open = found.isOpen();
    const picked = found.picked();
    let taken = true;
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    else if (key === "Enter") commit(picked);
    else if (key === "Tab" && !event.shiftKey && open) commit(picked);
    else if (key === "," || key === ";") commit(picked, true);
    else if (key === "Escape" && (open || state.armed)) { state.armed = false; found.close(); draw(); }
    else if ((key === "ArrowDown" || key === "ArrowUp") && open) found.move(key === "ArrowDown" ? 1 : -1);
    else if (key === "ArrowDown" && input.value) found.ask();
    else if (key === "Backspace" && !input.value && state.terms.length && !single) backspace();
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
  input.oninput = () => { say(""); found.ask(); };
  input.onblur = () => { if (state.armed) { state.armed = false; draw(); } found.close(); };
  input.onpaste = (event) => {
    const pasted = event.clipboardData.getData("text");
    if (!on.paste || !/[\s,;]/.test(pasted.trim())) return; // one name is pasted as if typed
    event.preventDefault();
    paste(pasted);
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
  field.onclick = (event) => { if (!event.target.closest("button, .gq-list")) input.focus(); };

  const take = (terms, stamp, rest) => {
    const fresh = terms.slice(0, MAX_TERMS).map((term) => ({ weight: 1, state: "ok", offers: [], ...term }));
    const late = settling.size > 0 || (given.has(stamp) && stamp !== text());
    if (late) {
      state.terms.forEach((term) => {
        const answer = fresh.find((other) => same(other.gene, term.gene));
        if (answer) Object.assign(term, { state: answer.state, offers: answer.offers });
      });
      return;
    }
    if (rest || input.value === state.rest) input.value = rest; // what is being typed stays
    state.rest = rest;
    const before = text();
    state.terms = fresh;
    state.armed = state.armed && text() === before;
    given.clear();
  };

  draw();
  return {
    update(data) {
      if (data.terms && (data.stamp === undefined || data.stamp !== state.stamp)) {
        take(data.terms, data.stamp, data.rest || "");
      }
      state.stamp = data.stamp;
      if (data.sets) state.sets = data.sets;
      if (data.placeholder !== undefined) state.placeholder = data.placeholder;
      label.textContent = data.label || "";
      label.hidden = !data.label;
      bar.classList.toggle("busy", Boolean(data.busy));
      bar.setAttribute("aria-busy", data.busy ? "true" : "false");
      draw();
    },
    focus() {
      input.focus();
    },
    submit,
    destroy() {
      gone = true;
      found.close();
      bar.remove();
    },
  };
}
