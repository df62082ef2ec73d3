"""Hostile texts, typed by a person and written by a model, on a page of a real Chromium: nothing runs, nothing is
fetched, nothing is read. And with the guard switched off, all of that happens."""

import sys
import threading
from html.parser import HTMLParser

import browser
import hostile
import pytest

from baize_nb import markdown
from baize_nb.chat import Conversation
from baize_nb.widget import ChatWidget, CompareWidget, bubbles

ALLOWED = {
    ("a", "href"),
    ("a", "rel"),
    ("a", "target"),
    ("ol", "start"),
    ("button", "type"),
    ("button", "class"),
    ("button", "aria-label"),
}
needs_chromium = pytest.mark.skipif(browser.executable() is None, reason="no Chromium or Chrome on PATH")


class Echo(Conversation):
    """A conversation whose replies are the questions: what is typed is written by the other side as well."""

    def __init__(self):
        super().__init__(8, 1, 1, 1, 0, 8192, None)

    def _read(self, messages):
        return messages

    def _length(self, messages):
        return 0

    def _write(self, messages):
        yield messages[-1]["content"], 1
        yield None, 0


class Reader(HTMLParser):
    """Which tags and attributes stand in a piece of html."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {(tag, *attribute) for attribute in attrs}


def everything():
    """All that the widgets make of the texts: a whole conversation, half replies, names, errors, votes."""
    chat = ChatWidget(Echo(), threaded=False)
    for text in hostile.TEXTS:
        chat.text.value = text
        chat.send.click()
    assert len(chat.session.messages) == 2 * len(hostile.TEXTS)
    compare = CompareWidget({hostile.TEXTS[0]: Echo(), hostile.TEXTS[10]: Echo()}, threaded=False)
    compare.text.value = hostile.TEXTS[12]
    compare.send.click()
    compare.ballot["left"].click()
    parts = [chat.view.value, compare.view.value, compare.status.value, compare.tally.value]
    parts += [bubbles.bubble(text, "assistant", "x") + bubbles.line(text) for text in hostile.TEXTS]
    halves = {text[:length] for text in hostile.TEXTS for length in range(1, min(len(text), 90))}
    return "".join(parts) + "".join(bubbles.bubble("AI", "assistant", half) for half in sorted(halves))


@pytest.fixture(scope="module")
def page():
    """A page in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser.executable(), args=["--no-sandbox"])
        with hostile.page(chromium.new_page()) as page:
            yield page
        chromium.close()


def test_there_are_enough_of_them():
    assert len(set(hostile.TEXTS)) == len(hostile.TEXTS) >= 60


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_only_the_named_tags_and_attributes_come_out(text):
    for copy in (False, True):
        seen = Reader(markdown.render(text, copy))
        assert seen.tags <= markdown.TAGS | {"button"}
        assert {attribute[:2] for attribute in seen.attributes} <= ALLOWED
        links = [value for _, name, value in seen.attributes if name == "href"]
        assert all(link.lower().startswith(("https://", "http://", "mailto:")) for link in links)
    assert Reader(markdown.plain(text)).tags == set()


@pytest.mark.parametrize("text", hostile.UNSEEN)
def test_what_nobody_sees_is_shown_as_a_mark(text):
    shown = markdown.plain(text) + markdown.render(text)
    hidden = [c for c in text if c in "\x00\x07\x08\x1b\x7f\x9b\u200b\u2060\ufeff\u2028" or "\u202a" <= c <= "\u2069"]
    assert not any(c in shown for c in hidden)
    assert all(shown.count(f"⟨U+{ord(c):04X}⟩") == 2 * text.count(c) for c in hidden)


def test_languages_and_emoji_are_left_alone():
    for text in ("می‌خواهم", "\u05e9\u05dc\u05d5\u05dd \u200e(1)\u200f", "👩‍👧 ❤️", "naïve – “ça”, 漢字"):
        assert markdown.visible(text) == text


def test_rendering_opens_no_file():
    opened, watched = [], threading.get_ident()
    everything()  # whatever is imported on the first time is imported now

    def hook(event, arguments):
        if event == "open" and threading.get_ident() == watched:
            opened.append(arguments[0])

    sys.addaudithook(hook)
    everything()
    watched = None
    assert opened == []


@needs_chromium
def test_in_a_browser_nothing_runs_and_nothing_is_fetched(page):
    assert page.put(everything()) > 1000
    assert page.ran == [] and page.asked == [] and page.refused == []
    assert "<script>harm(1)</script>" in page.tab.locator(".bz-user .bz-bubble").first.inner_text()
    assert "<script>harm(1)</script>" in page.tab.locator(".bz-assistant .bz-bubble").first.inner_text()


@needs_chromium
def test_with_the_guard_switched_off_it_all_happens(page, monkeypatch):
    monkeypatch.setattr(markdown, "render", lambda text, copy=False: text)
    monkeypatch.setattr(markdown, "plain", lambda text: text)
    groups = [hostile.SCRIPTS, hostile.HANDLERS, hostile.LINKS, hostile.FETCHES, hostile.FILES, hostile.STYLES]
    biting = []
    for group in groups:
        made = "".join(bubbles.bubble("AI", role, text) for text in group for role in ("user", "assistant"))
        page.put(made)
        biting.append((bool(page.ran), any("leak.test" in url for url in page.asked), bool(page.refused)))
    assert sum(ran for ran, _, _ in biting) >= 4
    assert sum(asked for _, asked, _ in biting) >= 2
    assert any("local resource" in text for text in page.refused) or any(refused for _, _, refused in biting)
