"""Typing into the gene query bar in a real browser: suggestions, terms, pasted lists, answers that come late."""

from __future__ import annotations

import pytest

from tests.browser.query_bar_page import (
    chips,
    log,
    opened,
    query_bar_server,
    typed,
    wait_change,
    wait_chips,
)


@pytest.fixture(scope="module")
def address(browser):
    with query_bar_server() as url:
        yield url


@pytest.fixture
def bar(page, address):
    return opened(page, address)


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
    bar.evaluate(
        """() => { const box = document.querySelector('input');
        for (const letter of 'EPCAM') { box.value += letter; box.dispatchEvent(new InputEvent('input', {bubbles: true})); } }"""
    )  # in one task of the page, however slow the machine
    bar.get_by_role("option").first.wait_for()
    assert log(bar, "asked") == ["EPCAM"]


def test_an_answer_to_an_earlier_state_undoes_no_edit(bar):
    bar.evaluate("window.slow = {answer: 500}")
    bar.keyboard.type("CD8A,")
    bar.wait_for_function("log.change.length === 1")
    bar.keyboard.type("EPCAM low,")
    wait_chips(bar, ["+CD8A", "-EPCAM"])
    bar.wait_for_timeout(1200)
    assert chips(bar) == ["+CD8A", "-EPCAM"]
