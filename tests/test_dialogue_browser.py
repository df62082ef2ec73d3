"""The dialogue browser: filters, steps, search, and in a real JupyterLab the arrow keys. Text stays text."""

import browser as chromium
import nbformat
import pytest
import run_notebooks
from nbformat.v4 import new_code_cell, new_notebook

from baize_nb import browser
from baize_nb.corpus import Dialogue


def talk(*contents, name="d-1", source="quora-style"):
    """A dialogue of these messages, user first."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return Dialogue(name, contents[0], source, messages=messages, end="max_turns")


def pool():
    """Three dialogues of one source, one of another."""
    three = [talk(f"What is {n}?", f"A number, {n}.", name=f"n-{n}") for n in range(3)]
    return [*three, talk("A heron?", "A bird.", name="h", source="alpaca-style")]


def test_it_steps_filters_and_searches():
    view = browser.Browser(pool(), notes={"h": "removed by <echo>"})
    assert view.where.value == "1 of 4" and view.back.disabled
    view.forth.click()
    assert view.where.value == "2 of 4" and "n-1" in view.view.value and view.position.value == 2
    view.source.value = "alpaca-style"
    assert view.where.value == "1 of 1" and view.forth.disabled and "removed by &lt;echo&gt;" in view.view.value
    view.source.value = browser.ALL
    view.search.value = "HERON"
    assert view.where.value == "1 of 1" and "<mark>heron</mark>" in view.view.value
    view.search.value = "no such word"
    assert view.where.value == "no dialogue" and view.forth.disabled and view.back.disabled
    view.forth.click()
    assert view.where.value == "no dialogue"
    view.search.value = ""
    assert view.where.value == "1 of 4"


def test_the_slider_goes_anywhere_and_the_buttons_stop_at_the_ends():
    view = browser.Browser(pool())
    view.position.value = 4
    assert view.where.value == "4 of 4" and view.forth.disabled and ">h · " in view.view.value
    view.forth.click()
    view.go(-9)
    assert view.where.value == "1 of 4" and view.back.disabled
    view.position.value = 3
    view.search.value = "number"
    assert view.where.value == "1 of 3" and view.position.max == 3


def test_it_filters_by_rule_and_says_what_the_rules_saw():
    found = {"loop": {"n-1": "it <repeats>", "h": "it turns"}, "echo": {"h": "an echo"}, "toxic": {}}
    view = browser.Browser(pool(), found, notes={"h": "look here"})
    assert [value for _, value in view.rule.options] == [browser.ANY, browser.OBJECTED, browser.FINE, "loop", "echo"]
    view.rule.value = "loop"
    assert view.where.value == "1 of 2" and "loop: it &lt;repeats&gt;" in view.view.value
    view.forth.click()
    assert all(text in view.view.value for text in ("look here", "loop: it turns", "echo: an echo"))
    view.rule.value = browser.FINE
    assert (
        view.where.value == "1 of 2"
        and "n-0" in view.view.value
        and "bz-note" not in view.view.value.split("</style>")[1]
    )
    view.rule.value = browser.OBJECTED
    view.source.value = "alpaca-style"
    assert view.where.value == "1 of 1"


@pytest.mark.parametrize("search", ["", "script", "<", "amp", "İ"])
def test_it_escapes_everything(search):
    evil = "<script>alert(1)</script> & <img src=x onerror=alert(2)> İ"
    page = browser.page(talk(evil, evil, source="<b>", name="<i>"), note="<u>", search=search)
    body = page.replace(browser._STYLE, "")
    assert not any(tag in body for tag in ("<script", "<img", "<b>", "<i>", "<u>"))
    if search in ("script", "<"):
        assert body.count("<mark>") >= 4


def test_an_empty_one_says_so():
    assert browser.Browser([]).where.value == "no dialogue"
    assert "0 dialogues" in browser.Browser([])._repr_mimebundle_()["text/plain"]


CELL = """
from baize_nb import browser
from baize_nb.corpus import Dialogue
said = [{"role": "user", "content": "<img src=x onerror=window.stolen=1>"}, {"role": "assistant", "content": "no"}]
pool = [Dialogue(f"d-{i}", source="s", messages=said) for i in range(20)]
browser.Browser(pool, {"loop": {"d-3": "it turns"}})
"""


@pytest.mark.timeout(200)
@pytest.mark.skipif(chromium.executable() is None, reason="no Chromium or Chrome on PATH; install one to run this")
def test_in_jupyterlab_the_arrow_keys_step_and_tab_reaches_every_part(tmp_path):
    (tmp_path / "notebooks").mkdir()
    nbformat.write(
        new_notebook(cells=[new_code_cell(CELL)], metadata=run_notebooks.METADATA), tmp_path / "notebooks" / "x.ipynb"
    )
    lab = chromium.Lab(tmp_path / "notebooks", tmp_path)
    try:
        lab.ready()
        with chromium.page(lab) as page:
            assert page.run_all("x.ipynb", 120) == []
            _use_the_keys(page.tab)
    finally:
        lab.close()


def _use_the_keys(tab):
    """What a person without a mouse does."""
    tab.get_by_text("1 of 20").wait_for()
    tab.locator(".noUi-handle").focus()
    for key, expected in (
        ("ArrowRight", 2),
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("End", 20),
        ("ArrowLeft", 19),
        ("Home", 1),
    ):
        tab.keyboard.press(key)
        tab.get_by_text(f"{expected} of 20", exact=True).wait_for(timeout=20_000)
    tab.locator(".jp-OutputArea select").first.focus()
    reached = []
    for _ in range(5):
        reached.append(tab.evaluate("() => document.activeElement.tagName + ' ' + document.activeElement.innerText"))
        tab.keyboard.press("Tab")
    assert [part.split()[0] for part in reached] == ["SELECT", "SELECT", "INPUT", "BUTTON", "DIV"]
    assert "Next" in reached[3]
    assert "<img src=x" in tab.locator(".bz-said").first.inner_text() and tab.evaluate("() => window.stolen") is None
