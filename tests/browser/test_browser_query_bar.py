"""The gene query bar in a real browser, with suggestions from the real completer over HTTP."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from stamp_index.errors import QueryError
from stamp_index.genes import (
    GeneCompleter,
    GeneReference,
    GeneResolver,
    close_names,
    load_marker_sets,
    read_gene_text,
)

PARTS = Path(__file__).parents[2] / "app" / "frontend" / "query_bar"
MARKUP = "<img src=x onerror=document.title='broken'>"
PAGE = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>bar</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/query_bar.css"></head>
<body style="margin:24px"><div id="bar"></div><button id="after">after</button><script type="module">
import { mount } from "/index.js";
const get = async (url) => (await fetch(url)).json();
const log = (window.log = { change: [], submit: [], paste: [], asked: [] });
const names = (terms) => terms.map((term) => term.gene).join();
window.slow = {};
const suggest = async (text) => {
  log.asked.push(text);
  const found = await get("/suggest?q=" + encodeURIComponent(text));
  await new Promise((done) => setTimeout(done, window.slow[text] || 0));
  return found;
};
const answer = async (text) => {
  const terms = await get("/terms?q=" + encodeURIComponent(text));
  await new Promise((done) => setTimeout(done, window.slow.answer || 0));
  bar.update({ terms, stamp: text });
};
const bar = mount(document.getElementById("bar"), { suggest, on: {
  change: (text) => { log.change.push(text); answer(text); },
  submit: (text) => log.submit.push(text),
  paste: (text, before) => { log.paste.push(text); log.before = before; answer(text); },
} });
window.bar = bar;
window.mountSingle = () => {
  const root = document.body.appendChild(document.createElement("div"));
  window.box = mount(root, { suggest, single: true, on: { change: (text) => log.change.push(text) } });
  box.update({ terms: [{ gene: "EPCAM", weight: 1 }], label: "Gene", stamp: "EPCAM" });
  box.focus();
};
bar.update({ terms: [], sets: await get("/sets"), placeholder: 'type a gene, or paste "MS4A1 high, KRT8 low"' });
document.body.dataset.ready = "yes";
</script></body></html>"""


class _Genes:
    """What the app would have in Python: a completer, a resolver and marker sets."""

    def __init__(self) -> None:
        genes = [gene for gene in GeneReference.load().human.symbols if not gene.startswith("LINC")]
        self.genes = genes
        self.completer = GeneCompleter(genes, species="human", measured=set(genes) - {"KRT8"})
        self.resolver = GeneResolver(genes)
        self.completer.complete("qzqzq")  # as a server does before its first page

    def suggest(self, text: str) -> list[dict]:
        return [asdict(one) for one in self.completer.complete(text)]

    def terms(self, text: str) -> list[dict]:
        return [self._term(gene, weight) for gene, weight in read_gene_text(text).terms]

    def _term(self, gene: str, weight: float) -> dict:
        try:
            known = self.resolver.resolve([gene], on_missing="ignore")
        except QueryError:
            named = [one for one in self.completer.complete(gene) if one.matched == gene]
            return {"gene": gene, "weight": weight, "state": "ambiguous", "offers": [one.symbol for one in named]}  # fmt: skip
        if not known:
            return {"gene": gene, "weight": weight, "state": "unknown", "offers": close_names(gene, self.genes)}  # fmt: skip
        state = "unmeasured" if known[gene] == "KRT8" else "ok"
        return {"gene": known[gene], "weight": weight, "state": state}

    def sets(self) -> list[dict]:
        own = [
            {"name": one.name, "title": one.title, "text": one.signature.text}
            for one in load_marker_sets()
        ]
        return [*own[:6], {"name": "x", "title": MARKUP, "text": "VIM high"}]


@contextmanager
def _serving(genes: _Genes):
    """The bar's files, a page that mounts it, and its questions."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = parse_qs(parts.query).get("q", [""])[0]
            if parts.path.endswith((".js", ".css")):
                kind = "text/javascript" if parts.path.endswith(".js") else "text/css"
                body = (PARTS / Path(parts.path).name).read_bytes()
            elif parts.path == "/":
                kind, body = "text/html", PAGE
            else:
                answers = {"/suggest": genes.suggest, "/terms": genes.terms}
                found = genes.sets() if parts.path == "/sets" else answers[parts.path](asked)
                kind, body = "application/json", json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def address(browser):
    with _serving(_Genes()) as url:
        yield url


@pytest.fixture
def bar(page, address):
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.get_by_role("combobox").focus()
    return page


def chips(page) -> list[str]:
    """Text of each chip with its direction."""
    return page.locator(".gq-chip").evaluate_all(
        "all => all.map(c => (c.classList.contains('high') ? '+' : '-') + Array.from(c.querySelectorAll('span'), s => s.textContent).join(' '))"
    )


def log(page, name: str) -> list[str]:
    return page.evaluate(f"log.{name}")


def wait_chips(page, wanted: list[str]) -> None:
    until = time.monotonic() + 10
    while chips(page) != wanted and time.monotonic() < until:
        page.wait_for_timeout(20)
    assert chips(page) == wanted


def wait_change(page, wanted: str) -> None:
    page.wait_for_function("wanted => log.change.at(-1) === wanted", arg=wanted, timeout=10_000)


def typed(page, text: str) -> None:
    """Type and wait for the list that belongs to it."""
    page.keyboard.type(text)
    page.locator(".gq-option").first.wait_for()


def test_typing_suggests_genes_and_enter_takes_the_first(bar):
    typed(bar, "cd8")
    box = bar.get_by_role("combobox")
    assert box.get_attribute("aria-expanded") == "true"
    assert bar.get_by_role("option").first.inner_text() == "CD8A"
    bar.keyboard.press("Enter")
    wait_chips(bar, ["+CD8A"])
    wait_change(bar, "CD8A high")
    assert box.input_value() == ""
    assert box.get_attribute("aria-expanded") == "false"


def test_arrow_keys_choose_an_option_and_escape_closes_the_list(bar):
    typed(bar, "her2")
    option = bar.get_by_role("option").first
    assert option.inner_text().split("\n") == ["ERBB2", "HER2, other name"]
    bar.keyboard.press("ArrowDown")
    active = bar.get_by_role("combobox").get_attribute("aria-activedescendant")
    assert active == option.get_attribute("id")
    assert option.get_attribute("aria-selected") == "true"
    bar.keyboard.press("Escape")
    assert bar.get_by_role("listbox").count() == 0
    assert bar.get_by_role("combobox").get_attribute("aria-activedescendant") is None
    bar.keyboard.press("ArrowDown")
    bar.get_by_role("option").first.wait_for()
    bar.keyboard.press("ArrowUp")  # from the top to the last
    last = bar.get_by_role("option").last
    name = last.locator("b").inner_text()
    bar.keyboard.press("Tab")
    wait_chips(bar, [f"+{name}"])


@pytest.mark.parametrize(
    ("text", "chip", "signature"),
    [
        ("CD8A low", "-CD8A", "CD8A low"),
        ("CD8A down", "-CD8A", "CD8A low"),
        ("-CD8A", "-CD8A", "CD8A low"),
        ("CD8A 2", "+CD8A ×2", "CD8A 2"),
        ("epcam=-0.5", "-EPCAM ×0.5", "EPCAM -0.5"),
        ("HLA-DRA-", "-HLA-DRA", "HLA-DRA low"),
    ],
)
def test_words_signs_and_numbers_make_the_chip(bar, text, chip, signature):
    bar.keyboard.type(text)
    bar.keyboard.press("Enter")  # before any suggestion has come
    wait_chips(bar, [chip])
    wait_change(bar, signature)


def test_a_comma_ends_a_term_and_takes_no_other_gene_for_it(bar):
    bar.keyboard.type("cd8a, EPCAM low, VIMX,")
    wait_chips(bar, ["+CD8A", "-EPCAM", "+VIMX unknown"])
    wait_change(bar, "CD8A high, EPCAM low, VIMX high")


def test_what_is_no_term_stays_in_the_field_and_is_explained(bar):
    bar.keyboard.type("CD8A very")
    bar.keyboard.press("Enter")
    assert "high, low or a number" in bar.get_by_role("status").inner_text()
    assert bar.get_by_role("combobox").input_value() == "CD8A very"
    assert chips(bar) == []


def test_the_arrow_of_a_chip_flips_it_by_mouse_and_by_keyboard(bar):
    bar.keyboard.type("CD8A,EPCAM,")
    wait_chips(bar, ["+CD8A", "+EPCAM"])
    bar.get_by_role("button", name="EPCAM high").click()
    wait_chips(bar, ["+CD8A", "-EPCAM"])
    wait_change(bar, "CD8A high, EPCAM low")
    bar.get_by_role("combobox").focus()
    bar.keyboard.press("ArrowLeft")
    bar.keyboard.press("ArrowLeft")
    bar.keyboard.press("Enter")
    wait_chips(bar, ["-CD8A", "-EPCAM"])
    wait_change(bar, "CD8A low, EPCAM low")
    bar.wait_for_timeout(150)  # the answer draws the chips anew, and the focus stays
    bar.keyboard.press("Delete")
    wait_chips(bar, ["-EPCAM"])
    wait_change(bar, "EPCAM low")


def test_backspace_marks_the_last_chip_and_then_removes_it(bar):
    bar.keyboard.type("CD8A,EPCAM,")
    wait_chips(bar, ["+CD8A", "+EPCAM"])
    bar.keyboard.press("Backspace")
    assert bar.locator(".gq-chip.armed").inner_text().strip() == "EPCAM"
    bar.keyboard.type("V")
    assert bar.locator(".gq-chip.armed").count() == 0
    for _ in range(3):
        bar.keyboard.press("Backspace")
    wait_chips(bar, ["+CD8A"])
    bar.get_by_role("button", name="Remove CD8A").click()
    wait_chips(bar, [])
    wait_change(bar, "")


def test_an_unknown_gene_says_so_and_offers_others(bar, screenshots):
    bar.keyboard.type("CD8X low,CD8A,")
    wait_chips(bar, ["-CD8X unknown", "+CD8A"])
    row = bar.locator(".gq-offer")
    assert row.inner_text().startswith("CD8X is unknown here. Did you mean")
    bar.keyboard.press("Control+Enter")
    bar.get_by_role("status").get_by_text("CD8X is unknown: choose a gene for it").wait_for()
    assert log(bar, "submit") == []
    bar.screenshot(path=screenshots / "query_bar_unknown.png")
    row.get_by_role("button", name="CD8B").click()
    wait_chips(bar, ["-CD8B", "+CD8A"])
    bar.keyboard.press("Control+Enter")
    bar.wait_for_function("log.submit.length")
    assert log(bar, "submit") == ["CD8B low, CD8A high"]


def test_an_ambiguous_and_an_unmeasured_gene_are_told_in_words(bar):
    typed(bar, "CD85")
    bar.keyboard.press("Enter")  # of two genes that have the name none is taken unasked
    bar.keyboard.type("KRT8,")
    wait_chips(bar, ["+CD85 ambiguous", "+KRT8 not measured"])
    row = bar.locator(".gq-offer")
    assert row.inner_text().startswith("CD85 means several genes. Did you mean")
    row.get_by_role("button", name="LILRB1").click()
    wait_chips(bar, ["+LILRB1", "+KRT8 not measured"])


def test_a_pasted_list_goes_to_python_and_comes_back_as_chips(bar):
    bar.evaluate(
        """() => { const data = new DataTransfer(); data.setData('text', 'MS4A1 high, KRT8 low\\nHER2 up');
        document.querySelector('input').dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})); }"""
    )
    wait_chips(bar, ["+MS4A1", "-KRT8 not measured", "+ERBB2"])
    assert log(bar, "paste") == ["MS4A1 high, KRT8 low\nHER2 up"]


def test_what_is_no_term_can_be_edited_and_read_again(bar):
    bar.evaluate(
        "bar.update({terms: [{gene: 'EPCAM', weight: -1}], rest: 'CD8A hihg, KRT8 low', stamp: 'of a link'})"
    )
    wait_chips(bar, ["-EPCAM"])
    box = bar.get_by_role("combobox")
    assert box.input_value() == "CD8A hihg, KRT8 low"
    box.fill("CD8A high, KRT8 low")
    bar.keyboard.press("Enter")
    bar.wait_for_function("log.paste.length")
    assert log(bar, "paste") == ["CD8A high, KRT8 low"]
    assert bar.evaluate("log.before") == "EPCAM low"
    assert box.input_value() == ""


def test_what_is_being_typed_outlives_an_answer(bar):
    bar.keyboard.type("CD8A,EPC")
    wait_chips(bar, ["+CD8A"])
    bar.evaluate("bar.update({terms: [{gene: 'CD8A', weight: 1}], rest: '', stamp: 'CD8A high'})")
    assert bar.get_by_role("combobox").input_value() == "EPC"


def test_of_many_unknown_genes_the_first_three_have_rows(bar):
    bar.keyboard.type("QXA1,QXA2,QXA3,QXA4,QXA5,")
    wait_chips(bar, [f"+QXA{n} unknown" for n in range(1, 6)])
    assert bar.locator(".gq-offer").count() == 4
    assert bar.locator(".gq-offer").last.inner_text() == "Then 2 more: QXA4, QXA5."


def test_a_single_gene_has_no_direction_and_typing_replaces_it(bar):
    bar.evaluate("mountSingle()")
    box = bar.locator(".gq.single")
    assert box.locator(".gq-gene").inner_text() == "EPCAM"
    assert box.locator("button").count() == 0
    bar.keyboard.press("Backspace")
    bar.keyboard.press("Backspace")
    bar.keyboard.type("cd8a low")
    bar.keyboard.press("Enter")
    wait_change(bar, "CD8A")
    assert box.locator(".gq-gene").all_inner_texts() == ["CD8A"]
    bar.keyboard.type("her2")
    box.get_by_role("option").first.click()
    wait_change(bar, "ERBB2")
    assert box.locator(".gq-gene").all_inner_texts() == ["ERBB2"]


def test_an_answer_that_comes_late_is_ignored(bar):
    bar.evaluate("window.slow = {EPC: 600}")
    bar.keyboard.type("EPC")
    bar.wait_for_function("log.asked.includes('EPC')")
    bar.keyboard.type("AM")
    bar.get_by_role("option").first.wait_for()
    assert bar.get_by_role("option").first.inner_text() == "EPCAM"
    shown = bar.get_by_role("option").all_inner_texts()
    bar.wait_for_timeout(700)
    assert bar.get_by_role("option").all_inner_texts() == shown


def test_fast_typing_asks_once(bar):
    typed(bar, "EPCAM")
    assert len(log(bar, "asked")) < 5
    assert log(bar, "asked")[-1] == "EPCAM"


def test_an_answer_to_an_earlier_state_undoes_no_edit(bar):
    bar.evaluate("window.slow = {answer: 500}")
    bar.keyboard.type("CD8A,")
    bar.wait_for_function("log.change.length === 1")
    bar.keyboard.type("EPCAM low,")
    wait_chips(bar, ["+CD8A", "-EPCAM"])
    bar.wait_for_timeout(1200)
    assert chips(bar) == ["+CD8A", "-EPCAM"]


def test_a_gene_that_is_there_is_changed_rather_than_doubled(bar):
    bar.keyboard.type("CD8A,cd8a low,")
    wait_chips(bar, ["-CD8A"])
    wait_change(bar, "CD8A low")


def test_at_most_fifty_genes_are_taken(bar):
    terms = [{"gene": f"KRT{at}", "weight": 1} for at in range(1, 51)]
    bar.evaluate("terms => bar.update({terms, stamp: 'fifty'})", terms)
    bar.keyboard.type("EPCAM")
    bar.keyboard.press("Enter")
    bar.get_by_role("status").get_by_text("At most 50 genes").wait_for()
    assert len(chips(bar)) == 50


def test_a_marker_set_adds_its_genes_and_takes_them_back(bar):
    chosen = bar.get_by_role("button", name="T cell, CD4")
    chosen.click()
    wanted = ["+CD4", "+CD3D", "+CD3E", "+CD3G", "-CD8A", "-CD8B"]
    wait_chips(bar, wanted)
    assert chosen.get_attribute("aria-pressed") == "true"
    chosen.click()
    wait_chips(bar, [])


def test_the_keyboard_alone_reaches_everything(bar):
    bar.keyboard.type("CD8A,EPCAM,")
    wait_chips(bar, ["+CD8A", "+EPCAM"])
    bar.keyboard.press("Tab")
    bar.evaluate("bar.update({terms: [{gene: 'CD8A'}, {gene: 'EPCAM'}], stamp: 'again'})")
    assert bar.evaluate("document.activeElement.className") == "gq-set"  # drawing takes no focus
    bar.keyboard.press("Shift+Tab")
    assert bar.evaluate("document.activeElement.className") == "gq-input"
    bar.keyboard.press("Shift+Tab")  # one stop for all chips
    assert bar.evaluate("document.activeElement.className") == "gq-level"
    bar.keyboard.press("Shift+Tab")
    assert bar.evaluate("document.activeElement.className.startsWith('gq')") is False


def test_names_are_text_and_never_markup(bar):
    assert bar.get_by_role("button", name=MARKUP).count() == 1
    terms = [{"gene": MARKUP, "weight": 1, "state": "unknown", "offers": [MARKUP]}]
    bar.evaluate("terms => bar.update({terms, stamp: 'markup'})", terms)
    assert bar.locator(".gq-gene").inner_text() == MARKUP
    assert bar.locator("img").count() == 0
    assert bar.title() == "bar"


def test_a_bar_that_is_taken_down_leaves_nothing(bar):
    bar.keyboard.type("CD8")
    bar.evaluate("bar.destroy()")
    bar.wait_for_timeout(200)
    assert bar.locator("#bar *").count() == 0


def test_the_bar_fits_a_narrow_page_and_is_pictured(bar, screenshots):
    bar.keyboard.type("CD8A,CD3E 2,EPCAM low,KRT8 low,CD8X,")
    wait_chips(bar, ["+CD8A", "+CD3E ×2", "-EPCAM", "-KRT8 not measured", "+CD8X unknown"])
    typed(bar, "HER")
    bar.keyboard.press("ArrowDown")
    bar.screenshot(path=screenshots / "query_bar_wide.png")
    bar.set_viewport_size({"width": 480, "height": 700})
    assert bar.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    bar.screenshot(path=screenshots / "query_bar_narrow.png")
