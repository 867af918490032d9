"""Style sheet and script of a report's page."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #10202c; --soft: #526270; --rule: #d5dde2; --band: #f3f6f8;
  --accent: #0f6e84; --best: #e2f1e4; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #12181d; --ink: #e4ebf0; --soft: #9fb0bc; --rule: #34424d; --band: #1a2229; --accent: #62bfd4;
    --best: #1d3a2a;
    --series-1: #3b9fdd; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
h1, h2, p, td, th, dt, dd, li, figcaption { unicode-bidi: isolate; }
dl { display: grid; grid-template-columns: fit-content(16rem) minmax(0, 1fr); gap: .15rem 1.25rem; margin: 0 0 1rem; }
dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
nav ol, .notes ul { margin: .25rem 0; padding-left: 1.4rem; }
nav li { overflow-wrap: anywhere; }
nav a { color: var(--accent); }
.notes { border-left: 3px solid var(--accent); background: var(--band); padding: .5rem 1rem; margin: 1rem 0;
  max-width: 46rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 0 .6rem .35rem 0; caption-side: top;
  overflow-wrap: anywhere; }
th, td { padding: .28rem .6rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--rule); }
th, td { overflow-wrap: break-word; max-width: 22rem; }
thead th { border-bottom: 2px solid var(--rule); vertical-align: bottom; font-weight: 600; padding: 0; }
.number { text-align: right; white-space: nowrap; }
.short { white-space: nowrap; }
.best { background: var(--best); font-weight: 600; }
tbody tr:hover { background: var(--band); }
.scroll { background: linear-gradient(90deg, transparent calc(100% - 1.5rem), var(--band)); }
.plots { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
.plots figure { flex: 0 1 auto; }
.plots.two figure { flex-basis: 47%; min-width: 24rem; }
.plots.three figure { flex-basis: 31%; min-width: 18rem; }
th button { all: unset; box-sizing: border-box; cursor: pointer; display: block; width: 100%; padding: .28rem .6rem; text-align: inherit; }
th button:hover { color: var(--accent); }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
th[aria-sort] button::after { content: "\\2009\\2193"; }
th[aria-sort="ascending"] button::after { content: "\\2009\\2191"; }
summary { cursor: pointer; color: var(--accent); margin: .75rem 0; max-width: 46rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.5rem; }
figure svg { display: block; max-width: 100%; height: auto; color: var(--ink); }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .4rem; max-width: 46rem; overflow-wrap: anywhere; }
.none { color: var(--soft); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  td, th, th button { padding: .15rem .35rem; }
  .short { white-space: normal; }
  thead { display: table-header-group; }
  tr, figure, .notes { break-inside: avoid; }
  h2, caption { break-after: avoid; }
}
"""

# A click on a column's name sorts the rows by it; what has no value stays last.
SCRIPT: Final = """
document.addEventListener('click', (event) => {
  const button = event.target.closest('th button');
  if (!button) return;
  const head = button.parentElement, body = head.closest('table').tBodies[0];
  const isNumber = head.classList.contains('number');
  const down = head.hasAttribute('aria-sort') ? head.getAttribute('aria-sort') === 'ascending' : isNumber;
  head.parentElement.querySelectorAll('[aria-sort]').forEach((one) => one.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const value = (row) => row.cells[head.cellIndex].dataset.value;
  const order = (a, b) => isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true });
  const rows = [...body.rows].filter((row) => value(row) !== undefined);
  const missing = [...body.rows].filter((row) => value(row) === undefined);
  rows.sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)));
  body.append(...rows, ...missing);
});
"""
