"""The notebooks in a real JupyterLab, seen by a real browser: each runs without an error, and the chat can be used.

They run in the order of their names and share one folder of artifacts, as they do for a student.
Set BAIZE_SCREENSHOTS to a folder to get pictures.
"""

import re

import browser
import pytest

CHAT = "05_chat.ipynb"  # has a test of its own, which runs it too
NOTEBOOKS = sorted(path.name for path in (browser.ROOT / "notebooks").glob("0[0-5]_*.ipynb") if path.name != CHAT)
SECONDS = 900  # for one notebook in profile ci, on a machine that does other things as well

pytestmark = [
    pytest.mark.timeout(SECONDS + 200),
    pytest.mark.skipif(browser.executable() is None, reason="no Chromium or Chrome on PATH; install one to run these"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One JupyterLab for all tests here."""
    with browser.laboratory(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def page(lab):
    """A fresh browser; the kernels that it started end with it."""
    with browser.page(lab) as page:
        yield page
    lab.end_kernels()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_without_an_error(page, name):
    assert page.run_all(name, SECONDS) == []
    page.picture(name.removesuffix(".ipynb"))


def test_the_chat_notebook_runs_and_a_student_chats(page):
    assert page.run_all(CHAT, SECONDS) == []
    tab = page.tab
    line = tab.get_by_placeholder("Your message, then Enter")
    box = tab.locator(".jp-OutputArea-output:has(.bz-chat)")
    replies, status = box.locator(".bz-assistant .bz-bubble"), box.get_by_role("status")
    line.scroll_into_view_if_needed()
    before = replies.count()
    line.fill("How can I sleep <b>better</b>?")
    line.press("Enter")
    lengths = _watch(tab, replies, before, status)
    assert len(lengths) > 1, "the reply came all at once"
    assert line.input_value() == "" and line.evaluate("line => line === document.activeElement")
    assert "How can I sleep <b>better</b>?" in box.inner_text()
    page.picture("chat-light", box)
    page.theme("JupyterLab Dark")
    page.picture("chat-dark", box)
    assert _contrast(box.locator(".bz-bubble").last) > 4.5
    page.theme("JupyterLab Light")
    tab.set_viewport_size({"width": 640, "height": 800})
    page.picture("chat-narrow", box)
    assert box.locator(".bz-chat").evaluate("e => e.scrollWidth <= e.clientWidth + 1"), (
        "something hangs out at the side"
    )
    box.get_by_role("button", name="Clear").click()
    box.get_by_text("No messages yet").wait_for(timeout=30_000)
    assert replies.count() == 0 and status.inner_text() == "ready"


def _watch(tab, replies, before, status):
    """The lengths that the new reply had while it was written, until the status line says how it ended."""
    lengths = set()
    for _ in range(6000):
        if replies.count() > before:
            text = replies.last.inner_text()
            lengths.add(len(text)) if text != "…" else None
        if lengths and re.search(r"tokens?/s", status.inner_text()):
            return lengths
        tab.wait_for_timeout(20)
    raise AssertionError(f"no reply came; the status line says {status.inner_text()!r}")


def _contrast(bubble):
    """WCAG contrast of a bubble's text against the first ground behind it that is not see-through."""
    text, ground = bubble.evaluate(
        """e => {
            const color = getComputedStyle(e).color;
            const solid = c => c && c !== 'transparent' && !/, 0\\)$/.test(c);
            while (e.parentElement && !solid(getComputedStyle(e).backgroundColor)) e = e.parentElement;
            return [color, getComputedStyle(e).backgroundColor];
        }"""
    )
    bright, dark = sorted((_luminance(text), _luminance(ground)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(color):
    """Relative luminance of an `rgb(…)` color."""
    parts = [float(x) / 255 for x in re.findall(r"[\d.]+", color)[:3]]
    r, g, b = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
