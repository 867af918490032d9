"""The app in Chromium beside a page that does the same with `st.plotly_chart(on_select=...)`, taking turns.

    OMP_NUM_THREADS=1 python benchmarks/app_pages.py FOLDER [--million] [--spots 50000]

Makes its stores in FOLDER once: a slide of 50,000 spots and 36,601 genes with a pyramid of 12,288 px, and with --million a
store of 1,000,000 spots of 512 numbers (6 GB). Prints Markdown for RESULTS.md. Both servers run on this machine, and so does
Chromium, headless and with software rendering.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from playwright.sync_api import sync_playwright

from app_parts.worlds import million_store, slide_store
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.driving import READY, drag, gene_input

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5
WAIT_MS = 120_000
PAGES = 6  # browsers at once


@contextmanager
def serving(command: list[str], health: str, **environment: str) -> Iterator[subprocess.Popen]:
    """Run a server until the block ends."""
    import urllib.request

    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
        **environment,
    }
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(health, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ours(store: Path, at: int) -> list[str]:
    return [
        sys.executable,
        "-P",
        "-m",
        "app_parts.server",
        "--store",
        str(store),
        "--port",
        str(at),
    ]


def peer(store: Path, at: int) -> list[str]:
    script = str(HERE / "app_parts" / "plotly_page.py")
    options = [f"--server.port={at}", "--server.headless=true", "--browser.gatherUsageStats=false"]
    return [sys.executable, "-P", "-m", "streamlit", "run", script, *options, "--", str(store)]


class Sent:
    """Bytes that a page sends over its websocket."""

    def __init__(self, page) -> None:  # noqa: ANN001
        self.n = 0
        page.on("websocket", lambda socket: socket.on("framesent", self._add))

    def _add(self, frame: str | bytes) -> None:
        self.n += len(frame)


def circle(box: dict, share: float, corners: int = 24) -> list[tuple[float, float]]:
    """Corners of a circle around the middle of a box."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    radius = share * min(box["width"], box["height"])
    angles = [2 * math.pi * at / corners for at in range(corners + 1)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def our_round(context, url: str) -> dict[str, float]:  # noqa: ANN001
    """Open the slide, draw a lasso, change the gene."""
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    sent, found = Sent(page), {}
    began = time.perf_counter()
    page.goto(f"{url}/?" + urlencode({"drawer": "canvas", "gene": "EPCAM"}))
    host = page.locator(".si-host").first
    host.wait_for()
    host.evaluate(READY, WAIT_MS)
    found["open, s"] = time.perf_counter() - began
    box = host.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(800)
    page.keyboard.press("l")
    before = sent.n
    drag(page, circle(box, 0.35))
    began = time.perf_counter()
    page.locator(".st-key-lassocard").get_by_text("Lasso:").wait_for()
    found["lasso to result, s"] = time.perf_counter() - began
    found["lasso, spots"] = _spots(page.locator(".st-key-lassocard").inner_text())
    found["lasso, bytes up"] = sent.n - before
    page.keyboard.press("v")
    page.wait_for_timeout(800)
    view, before = host.evaluate("h => JSON.stringify(h.__stamp.view())"), sent.n
    began = time.perf_counter()
    _ask_gene(page, "CD8A")
    host.evaluate(
        "h => new Promise(done => { const look = () => h.__stamp.layer() === 'CD8A' ? done() : setTimeout(look, 20); look(); })"
    )
    found["gene change, s"] = time.perf_counter() - began
    kept = host.evaluate("h => JSON.stringify(h.__stamp.view())") == view
    found["gene change keeps view and lasso"] = float(
        kept and host.evaluate("h => Boolean(h.__stamp.lasso())")
    )
    for _ in range(20):
        page.mouse.wheel(0, 60)
        page.wait_for_timeout(30)
    page.wait_for_timeout(500)
    frames = sorted(host.evaluate("h => Array.from(h.__stamp.frames_ms)"))
    found["overlay frame, ms: median"] = statistics.median(frames)
    found["overlay frame, ms: p95"] = frames[int(0.95 * (len(frames) - 1))]
    page.close()
    return found


def _ask_gene(page, gene: str) -> None:  # noqa: ANN001
    """Type a gene into the box of the Slides page."""
    box = page.locator(".st-key-slidebar input[type=text], .st-key-slidebar [role=combobox]").last
    box.click()
    box.fill(gene)
    box.press("Enter")


def _spots(text: str) -> float:
    return float(re.search(r"Lasso: ([\d,]+)", text)[1].replace(",", ""))


def peer_round(context, url: str) -> dict[str, float]:  # noqa: ANN001
    """Do the same on the plotly page."""
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    sent, found = Sent(page), {}
    began = time.perf_counter()
    page.goto(url)
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    plot.wait_for()
    page.wait_for_timeout(0)
    found["open, s"] = time.perf_counter() - began
    page.wait_for_timeout(2000)
    box, before = plot.bounding_box(), sent.n
    drag(page, circle(box, 0.35))
    began = time.perf_counter()
    page.get_by_text(re.compile(r"Lasso: [1-9][\d,]* spots")).wait_for()
    found["lasso to result, s"] = time.perf_counter() - began
    found["lasso, spots"] = _spots(page.get_by_text(re.compile(r"Lasso: [1-9]")).inner_text())
    found["lasso, bytes up"] = sent.n - before
    page.close()
    return found


def gallery(context, url: str) -> float:  # noqa: ANN001
    """Seconds until 48 hits of a query that nobody asked before are shown with their pictures."""
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}/genes?" + urlencode({"drawer": "canvas", "q": "CD8A high"}))
    page.locator(".grid[data-ready] .tile").nth(47).wait_for()
    page.wait_for_timeout(1500)
    began = time.perf_counter()
    page.goto(
        f"{url}/genes?"
        + urlencode({"drawer": "canvas", "q": f"EPCAM high, CD8A {time.time() % 1 + 0.5:.3f}"})
    )
    page.locator(".grid[data-ready] .tile").nth(47).wait_for()
    page.wait_for_function(
        """() => {
          const all = (root) => [...root.querySelectorAll('.tile img'),
            ...[...root.querySelectorAll('*')].filter((n) => n.shadowRoot).flatMap((n) => all(n.shadowRoot))];
          const images = all(document);
          return images.length >= 48 && images.every((image) => image.complete);
        }"""
    )
    seconds = time.perf_counter() - began
    page.close()
    return seconds


WATCH_OPTIONS = """(input) => {
  const list = input.getRootNode().querySelector("[role=listbox]");
  window.__shown_ms = [];
  let began = 0;
  input.addEventListener("input", () => { began = performance.now(); }, true);
  new MutationObserver(() => {
    if (!began || !list.querySelector("[role=option]")) return;
    const from = began;
    began = 0;
    requestAnimationFrame(() => setTimeout(() => window.__shown_ms.push(performance.now() - from)));
  }).observe(list, { childList: true, subtree: true });
}"""


def completion(context, url: str) -> list[float]:  # noqa: ANN001
    """Milliseconds from each letter of some gene names to the options that it brings, drawn."""
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}/genes?" + urlencode({"drawer": "canvas", "q": "CD8A high"}))
    page.locator(".grid[data-ready] .tile").nth(47).wait_for()
    page.wait_for_timeout(1500)
    field = gene_input(page)
    field.evaluate(WATCH_OPTIONS)
    for name in ("EPCAM", "her2", "COL1A1", "ki-67", "ENSG0000012", "ptprc"):
        for letter in name:
            page.keyboard.press(letter)
            page.wait_for_timeout(300)
        field.fill("")
        page.wait_for_timeout(300)
    found = sorted(page.evaluate("window.__shown_ms"))
    page.close()
    return found


def six_at_once(chromium, url: str, process: subprocess.Popen) -> float:  # noqa: ANN001
    """MiB that the server has held at its most after six browsers did the round."""
    contexts = [chromium.new_context(viewport={"width": 1280, "height": 720}) for _ in range(PAGES)]
    pages = [context.new_page() for context in contexts]
    for number, page in enumerate(pages):
        page.set_default_timeout(WAIT_MS)
        gene = ("EPCAM", "CD8A", "COL1A1")[number % 3]
        page.goto(f"{url}/?" + urlencode({"drawer": "canvas", "gene": gene}), wait_until="commit")
    for page in pages:
        host = page.locator(".si-host").first
        host.wait_for()
        host.evaluate(READY, WAIT_MS)
        box = host.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.keyboard.press("l")
        drag(page, circle(box, 0.3))
        page.locator(".st-key-lassocard").get_by_text("Lasso:").wait_for()
    for context in contexts:
        context.close()
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def table(mine: list[dict[str, float]], theirs: list[dict[str, float]]) -> list[str]:
    lines = ["| measure (median of rounds) | ours | plotly | plotly / ours |", "|---|---|---|---|"]
    for name in mine[0]:
        a = statistics.median(one[name] for one in mine)
        held = [one[name] for one in theirs if name in one]
        b = statistics.median(held) if held else math.nan
        ratio = f"{b / a:.2f}" if held and a else ""
        lines.append(f"| {name} | {a:,.2f} | {'' if not held else f'{b:,.2f}'} | {ratio} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spots", type=int, default=50_000)
    parser.add_argument("--million", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    store = slide_store(asked.folder, asked.spots).path
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        a, b = port(), port()
        our_url, peer_url = f"http://127.0.0.1:{a}", f"http://127.0.0.1:{b}"
        with (
            serving(ours(store, a), f"{our_url}/_stcore/health") as process,
            serving(peer(store, b), f"{peer_url}/_stcore/health"),
        ):
            mine, theirs = [], []
            for number in range(ROUNDS + 1):
                context = chromium.new_context(viewport={"width": 1280, "height": 720})
                pair = our_round(context, our_url), peer_round(context, peer_url)
                context.close()
                if number:  # the first round warms both
                    mine.append(pair[0])
                    theirs.append(pair[1])
            print("\n".join(table(mine, theirs)))
            context = chromium.new_context(viewport={"width": 1280, "height": 720})
            seconds = [gallery(context, our_url) for _ in range(ROUNDS)]
            print(f"\ngallery of 48 hits, s: {statistics.median(seconds):.2f}")
            shown = completion(context, our_url)
            print(
                f"letter to options drawn, ms: median {statistics.median(shown):.0f}, p95 "
                f"{shown[int(0.95 * (len(shown) - 1))]:.0f} ({len(shown)} letters)"
            )
            print(
                f"six browsers at once, MiB of the server: {six_at_once(chromium, our_url, process):.0f}"
            )
        if asked.million:
            opening(chromium, million_store(asked.folder).path)
        chromium.close()


def opening(chromium, store: Path) -> None:  # noqa: ANN001
    """Seconds from the first address to the first page of a million spots, on a server that has just started."""
    found = []
    for _ in range(3):
        at = port()
        url = f"http://127.0.0.1:{at}"
        with serving(ours(store, at), f"{url}/_stcore/health", BENCHMARK_DIM="512"):
            page = chromium.new_page()
            page.set_default_timeout(WAIT_MS)
            began = time.perf_counter()
            page.goto(f"{url}/?drawer=canvas")
            host = page.locator(".si-host").first
            host.wait_for()
            host.evaluate(READY, WAIT_MS)
            found.append(time.perf_counter() - began)
            page.close()
    print(
        f"1,000,000 spots, first page of a server that has just started, s: {statistics.median(found):.2f}"
    )


if __name__ == "__main__":
    main()
