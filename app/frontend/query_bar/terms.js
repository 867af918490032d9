/** Terms of a query: a gene with a weight, as stamp_index/genes/signature.py has them. */

export const MAX_TERMS = 50; // as there
const WEIGHTS = [0.001, 1000];
const LEVELS = { high: 1, hi: 1, up: 1, "+": 1, low: -1, lo: -1, down: -1, dn: -1, "-": -1 };
const NUMBER = "[+-]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:e[+-]?\\d+)?";
const NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";
const TERM = new RegExp(`^([+-])?\\s*(${NAME})(?:(?:\\s*[:=]\\s*|\\s+)(high|hi|up|low|lo|down|dn|[+-]|${NUMBER})|([+-]))?$`, "i");

/** What a chip says of a gene that is not simply known, by the state that Python gave. */
export const STATES = {
  unknown: "unknown",
  ambiguous: "ambiguous",
  unencoded: "not in the encoder",
  unmeasured: "not measured",
};
const OPEN = ["unknown", "ambiguous", "unencoded"]; // with these nothing can be searched

export const isOpen = (term) => OPEN.includes(term.state);
export const same = (a, b) => a.toLowerCase() === b.toLowerCase();
export const word = (weight) => (weight > 0 ? "high" : "low");
export const levelText = (weight) => (Math.abs(weight) === 1 ? word(weight) : String(weight));
export const textOf = (terms) => terms.map((term) => term.gene + " " + levelText(term.weight)).join(", ");
const plain = (text) => text.replace(/[\u2212\u2010-\u2014]/g, "-").trim();

/** What suggestions are asked for while a level may be following. */
export const nameIn = (text) => plain(text).replace(/^[+-]\s*/, "").split(/[\s:=]/)[0];

/** "CD8A low", "-CD8A", "CD8A 2": the gene and its weight, or null. */
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

export const termsIn = (text) => text.split(/[,;\n]/).map(parseTerm).filter(Boolean);

/**
 * Which suggestion a name stands for. One that only looks like it, or one of several genes that have the name, is never
 * taken unasked; with `exactly` none that only begins with it.
 */
export const meant = (gene, found, exactly) => {
  const key = gene.toLowerCase();
  const fits = (one) => one.symbol.toLowerCase().startsWith(key) || one.matched.toLowerCase().startsWith(key);
  const named = found.filter((one) => same(one.matched, gene));
  const exact = found.find((one) => same(one.symbol, gene)) || (named.length === 1 ? named[0] : undefined);
  return exact || (exactly || named.length ? undefined : found.find(fits));
};
