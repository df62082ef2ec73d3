"""Hostile texts, typed by a person and written by a model, on a page of a real Chromium: nothing runs, nothing is
fetched, nothing is read. And with the guard switched off, all of that happens."""

from html.parser import HTMLParser

import hostile
import lab
import pytest
from talks import Scripted

from baize_nb.corpus import Dialogue
from baize_nb.widgets import ChatWidget, CompareWidget, browser, html

ALLOWED = {("a", "href"), ("a", "rel"), ("a", "target"), ("ol", "start")}
needs_chromium = pytest.mark.skipif(lab.executable() is None, reason="no Chromium or Chrome on PATH")
EMPTY = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><body></body>"
# Everything that a page would do at once, and after that everything that a person could set off.
TRY = """html => {
    const root = document.createElement('div');
    document.body.replaceChildren(root);
    root.innerHTML = html;
    const events = ['click', 'mouseover', 'focus', 'load', 'error', 'toggle', 'animationstart', 'start', 'begin'];
    for (const element of root.querySelectorAll('*')) {
        for (const event of events) element.dispatchEvent(new Event(event));
        if (element.tagName === 'A' && !/^(https?|mailto):/.test(element.href)) element.click();
    }
    return root.querySelectorAll('*').length;
}"""


class Page:
    """An empty page that html can be put into. ran: what was called; asked: every address; refused: the log."""

    def __init__(self, tab):
        self.tab, self.ran, self.asked, self.refused = tab, [], [], []
        tab.route("**/*", self._answer)
        tab.on("popup", lambda popup: self.asked.append(popup.url))
        tab.on("console", lambda message: self.refused.append(message.text))
        tab.on("dialog", lambda dialog: (self.ran.append(dialog.message), dialog.dismiss()))
        tab.expose_function("harm", lambda what: self.ran.append(what))

    def _answer(self, route):
        if route.request.url == "http://page.test/":
            route.fulfill(body=EMPTY, content_type="text/html")
        else:
            self.asked.append(route.request.url)
            route.abort()

    def put(self, html):
        """Put html into a fresh page and set off all that can be set off in it; return how many elements there were."""
        self.tab.goto("http://page.test/")
        for seen in (self.ran, self.asked, self.refused):
            seen.clear()
        count = self.tab.evaluate(TRY, html)
        self.tab.wait_for_timeout(300)  # time for what begins by itself: images, frames, animations
        return count


@pytest.fixture(scope="module")
def page():
    """A page in a browser of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=lab.executable(), args=["--no-sandbox"])
        yield Page(chromium.new_page())
        chromium.close()


class Tags(HTMLParser):
    """Which tags and attributes stand in a piece of html."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {(tag, *attribute) for attribute in attrs}


def everything():
    """All that the widgets make of the texts: a whole conversation, half replies, names, errors, dialogues."""
    chat = ChatWidget(Scripted(), threaded=False)
    for text in hostile.TEXTS:
        chat.text.value = text
        chat.send.click()
    assert len(chat.session.messages) == 2 * len(hostile.TEXTS)
    parts = [chat.view.value]
    parts += [html.bubble(text, "assistant", "x") + html.status(text) for text in hostile.TEXTS]
    said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(hostile.TEXTS)]
    parts += [browser.page(Dialogue(text, text, text, messages=said), text, text[:3]) for text in hostile.TEXTS[:9]]
    halves = {text[:length] for text in hostile.TEXTS for length in range(1, min(len(text), 90))}
    return "".join(parts) + "".join(html.bubble("AI", "assistant", half) for half in sorted(halves))


@pytest.mark.parametrize("texts", hostile.GROUPS, ids=lambda texts: texts[0])
def test_only_the_named_tags_and_attributes_come_out(texts):
    for text in texts:
        seen = Tags(html.render(text))
        assert seen.tags <= html.TAGS
        assert {attribute[:2] for attribute in seen.attributes} <= ALLOWED
        links = [value for _, name, value in seen.attributes if name == "href"]
        assert all(link.lower().startswith(("https://", "http://", "mailto:")) for link in links)
        assert Tags(html.plain(text)).tags == set()


def test_markdown_is_rendered():
    made = html.render("**b** `c`\n\n- one\n\n|a|\n|-|\n|1|\n\n```python\nx = 1 < 2\n```\n[w](https://a.org)")
    for part in ("<strong>b</strong>", "<li>one</li>", "<td>1</td>", "x = 1 &lt; 2", 'href="https://a.org"'):
        assert part in made
    assert 'target="_blank"' in made and "noopener" in made


def test_what_nobody_sees_is_shown_as_a_mark_and_languages_and_emoji_are_left_alone():
    for text in hostile.UNSEEN:
        shown = html.plain(text) + html.render(text)
        unseen = "\x00\x07\x08\x1b\x7f\x9b\u200b\u2060\ufeff\u2028"
        hidden = [c for c in text if c in unseen or "\u202a" <= c <= "\u2069"]
        assert not any(c in shown for c in hidden)
        assert all(shown.count(f"⟨U+{ord(c):04X}⟩") == 2 * text.count(c) for c in hidden)
    flag = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    for text in ("می‌خواهم", "\u05e9\u05dc\u05d5\u05dd \u200e(1)\u200f", f"👩‍👧 ❤️ {flag}", "ça, 漢字"):
        assert html.plain(text) == text


@needs_chromium
def test_in_a_browser_nothing_runs_and_nothing_is_fetched(page, tmp_path):
    compare = CompareWidget({hostile.TEXTS[0]: Scripted(), hostile.TEXTS[10]: Scripted()}, tmp_path / "votes", False)
    compare.text.value = hostile.TEXTS[12]
    compare.send.click()
    compare.ballot["left"].click()
    assert page.put(everything() + compare.view.value + compare.status.value + compare.tally.value) > 1000
    assert page.ran == [] and page.asked == [] and page.refused == []
    for said in (".bz-user .bz-bubble", ".bz-assistant .bz-bubble", "[aria-label=Dialogue] .bz-user"):
        assert "<script>harm(1)</script>" in page.tab.locator(said).first.inner_text()


@needs_chromium
def test_with_the_guard_switched_off_it_all_happens(page, monkeypatch):
    monkeypatch.setattr(html, "render", lambda text: text)
    monkeypatch.setattr(html, "plain", lambda text: text)
    html.bubble.cache_clear()
    biting = []
    for group in hostile.GROUPS[:5]:
        page.put("".join(html.bubble("AI", role, text) for text in group for role in ("user", "assistant")))
        biting.append((bool(page.ran), any("leak.test" in url for url in page.asked), bool(page.refused)))
    html.bubble.cache_clear()
    assert sum(ran for ran, _, _ in biting) >= 3 and sum(asked for _, asked, _ in biting) >= 2
    assert any(refused for _, _, refused in biting)
