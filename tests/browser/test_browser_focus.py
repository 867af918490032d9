"""Every page by the Tab key alone: each stop is seen, and the last one lets go."""

from __future__ import annotations

import pytest

from tests.browser.test_browser_pages import PAGES, opened

MOST_STOPS = 90
# The element that has the focus, through shadow roots: its name, place, and whether a ring of its own or of what holds it tells
# that it has it (compared with the same elements without it).
STOP = """async () => {
  let node = document.activeElement;
  while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
  if (!node || node === document.body) return null;
  const chain = [];
  for (let at = node; at && chain.length < 5; at = at.parentElement || at.getRootNode().host) chain.push(at);
  const look = () => chain.flatMap((one) => ["", "::before", "::after"].map((part) => {
    const s = getComputedStyle(one, part || null);
    return [s.outlineStyle, s.outlineWidth, s.boxShadow, s.borderColor, s.borderWidth, s.backgroundColor, s.color].join();
  })).join(";");
  const still = document.createElement("style");
  const root = node.getRootNode();
  still.textContent = "* { transition: none !important; }";
  (root.head || root).append(still);
  const told = () => new Promise((done) => setTimeout(done, 40)); // some elements are marked by scripts
  await told();
  const focused = look();
  node.blur();
  await told();
  const plain = look();
  node.focus({ focusVisible: true, preventScroll: true });
  still.remove();
  const box = node.getBoundingClientRect();
  return {
    what: node.outerHTML.slice(0, 140), ring: focused !== plain, y: box.y + scrollY,
  };
}"""


def stops(page) -> list[dict]:
    """Where the Tab key stops, until it comes around."""
    found: list[dict] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop is None or (
            found and stop["what"] == found[0]["what"] and stop["y"] == found[0]["y"]
        ):
            return found
        found.append(stop)
    pytest.fail(f"the Tab key did not come around: {[stop['what'] for stop in found[-4:]]}")


@pytest.mark.parametrize("where", PAGES)
def test_tab_key_comes_around_and_shows_where_it_is(page, server, where):
    query = {"q": "CD8A high", "k": "6"} if where == "genes" else {}
    opened(page, server.url(where, **query), PAGES[where])
    page.wait_for_timeout(1500)
    found = stops(page)
    assert len(found) >= 8
    unseen = [stop["what"] for stop in found if not stop["ring"]]
    # A table draws its ring around a cell, on its canvas.
    assert [what for what in unseen if "data-grid-canvas" not in what] == []
    assert (
        page.locator('[tabindex]:not([tabindex="0"]):not([tabindex="-1"])').count() == 0
    )  # the page's own order
