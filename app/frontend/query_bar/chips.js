/** What a query bar draws of its terms: chips, the names offered for those that are open, and marker sets. */
import { button, el, icon } from "./dom.js";
import { STATES, levelText, word } from "./terms.js";

const MAX_OFFERS = 3; // rows; a pasted list can have fifty names that nobody knows

/**
 * A gene with its arrow, weight and state.
 * @param {object} term gene, weight, state
 * @param {{armed: boolean, last: boolean, single: boolean}} how a single gene has neither direction nor cross
 * @param {{flip(): void, drop(): void}} act
 */
export function chipOf(term, { armed, last, single }, act) {
  const chip = el("li", `gq-chip ${single ? "plain" : word(term.weight)} ${term.state || "ok"}`);
  chip.dataset.gene = term.gene;
  chip.classList.toggle("armed", armed && last);
  const state = STATES[term.state];
  if (!single) {
    const level = button("gq-level", `${term.gene} ${levelText(term.weight)}${state ? ", " + state : ""}. Make it ${word(-term.weight)}`);
    level.tabIndex = last ? 0 : -1; // one stop for all chips; arrow keys move between them
    level.title = `${word(term.weight)}: click for ${word(-term.weight)}`;
    level.append(icon(term.weight > 0 ? "up" : "down"));
    level.onclick = act.flip;
    chip.append(level);
  }
  const gene = el("span", "gq-gene", term.gene);
  if (term.asked) gene.title = `asked for as ${term.asked}`;
  chip.append(gene);
  if (!single && Math.abs(term.weight) !== 1) chip.append(el("span", "gq-weight", "\u00d7" + Math.abs(term.weight)));
  if (state) chip.append(el("span", "gq-state", state));
  if (single) return chip;
  const remove = button("gq-remove", "Remove " + term.gene);
  remove.tabIndex = -1;
  remove.append(icon("cross"));
  remove.onclick = act.drop;
  chip.append(remove);
  return chip;
}

const REASONS = {
  ambiguous: (gene) => `${gene} means several genes.`,
  unencoded: (gene) => `${gene} was measured, but the encoder does not know it.`,
  unknown: (gene) => `${gene} is unknown here.`,
};

const offerRow = (term, choose) => {
  const row = el("div", "gq-offer");
  const names = term.offers || [];
  row.append(el("span", "", `${REASONS[term.state](term.gene)} ${names.length ? "Did you mean" : "Correct or remove it."}`));
  names.forEach((name) => {
    const choice = button("gq-choice");
    choice.textContent = name;
    choice.onclick = () => choose(term, name);
    row.append(choice);
  });
  if (names.length) row.append(el("span", "", "?"));
  return row;
};

/** Rows of what the open terms may mean; `choose(term, name)` is called with a name that was taken. */
export function offerRows(open, choose) {
  const rows = open.slice(0, MAX_OFFERS).map((term) => offerRow(term, choose));
  const more = open.slice(MAX_OFFERS).map((term) => term.gene);
  if (more.length) rows.push(el("div", "gq-offer", `Then ${more.length} more: ${more.join(", ")}.`));
  return rows;
}

/** A button that adds the genes of a marker set, or takes them back. */
export function setOf(set, toggle) {
  const node = button("gq-set");
  node.textContent = set.title;
  node.title = set.text;
  node.onclick = () => toggle(set);
  return node;
}
