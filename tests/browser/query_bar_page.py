"""The gene query bar on a page of its own, with suggestions from the real completer over HTTP; and driving it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

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
const log = (window.log = { change: [], submit: [], paste: [], asked: [], answered: [] });
const names = (terms) => terms.map((term) => term.gene).join();
window.slow = {};
const suggest = async (text) => {
  log.asked.push(text);
  const found = await get("/suggest?q=" + encodeURIComponent(text));
  await new Promise((done) => setTimeout(done, window.slow[text] || 0));
  log.answered.push(text);
  return found;
};
const answered = async (text) => {
  const terms = await get("/terms?q=" + encodeURIComponent(text));
  await new Promise((done) => setTimeout(done, window.slow.answer || 0));
  return { terms, stamp: text };
};
let last = Promise.resolve();
const answer = (text) => { // in the order of the questions, as one run of the app follows another
  const found = answered(text);
  last = last.then(async () => bar.update(await found));
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
def query_bar_server():
    """The bar's files, a page that mounts it, and its questions; its address."""
    genes = _Genes()

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


def opened(page, address: str):
    """The page with its bar mounted and the field in focus."""
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
    """What the bar has told so far: change, submit, paste, asked or answered."""
    return page.evaluate(f"log.{name}")


def wait_chips(page, wanted: list[str]) -> None:
    """Wait until the bar has these chips."""
    until = time.monotonic() + 10
    while chips(page) != wanted and time.monotonic() < until:
        page.wait_for_timeout(20)
    assert chips(page) == wanted


def wait_change(page, wanted: str) -> None:
    """Wait until the bar has told this signature."""
    page.wait_for_function("wanted => log.change.at(-1) === wanted", arg=wanted, timeout=10_000)


def typed(page, text: str) -> None:
    """Type and wait for the list that belongs to it."""
    page.keyboard.type(text)
    page.wait_for_function("text => log.answered.at(-1) === text", arg=text, timeout=10_000)
    page.locator(".gq-option").first.wait_for()
