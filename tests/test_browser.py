"""Notebooks in a real JupyterLab, seen by a real browser: they run without an error, and the widgets can be used.

Of the notebooks only those run here that have something to click at once; nbval runs them all.
"""

import re

import lab
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

NOTEBOOKS = ("00_start_here.ipynb", "03_corpus_inspection.ipynb")  # the doctor's table, the browser of dialogues
SECONDS = 900  # for one notebook in profile ci, on a machine that does other things as well

pytestmark = [
    pytest.mark.timeout(SECONDS + 200),
    pytest.mark.skipif(lab.executable() is None, reason="no Chromium or Chrome on PATH; install one to run these"),
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """One JupyterLab and one browser for all tests here."""
    with lab.laboratory(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


@pytest.fixture
def page(opened):
    page = opened()
    yield page
    page.tab.close()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_without_an_error(page, name):
    assert page.run_all(name, SECONDS) == []
    if name.startswith("03"):
        _use_the_keys(page)


CHAT = """
from baize_nb import teacher
from baize_nb.chat import EndpointSession
from baize_nb.widgets import ChatWidget

engine = teacher.embedded(slots=2)
ChatWidget({name: EndpointSession(engine, max_new_tokens=48) for name in ("after tuning", "before tuning")})
"""


def test_a_student_chats_and_compares(page):
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    chat = new_notebook(cells=[new_code_cell(CHAT)], metadata=metadata)
    nbformat.write(chat, page.lab.notebooks / "chat.ipynb")
    assert page.run_all("chat.ipynb", SECONDS) == []
    page.tab.set_default_timeout(120_000)
    chat = Chat(page.tab, page.tab.locator(".jp-OutputArea-output:has(.bz-chat)").filter(has_text="Regenerate"))
    _send_and_read(page, chat)
    _write_lines(page, chat)
    _look(page, chat)
    _stop_and_regenerate(chat)
    _edit_by_keyboard(chat)
    _switch_reload_and_clear(page, chat)
    _do_no_harm(page)
    _compare(page)


class Chat:
    """A widget on the page; its parts, found as a person finds them."""

    def __init__(self, tab, box):
        self.tab, self.box = tab, box
        self.line = box.get_by_role("textbox", name="You")
        self.questions, self.replies = box.locator(".bz-user .bz-bubble"), box.locator(".bz-assistant .bz-bubble")
        self.status = box.locator("[role=status], [role=alert]").first

    def button(self, name):
        return self.box.get_by_role("button", name=re.compile(rf"^\W*{name}$"))  # an icon is a character too

    def ask(self, question):
        """Type a question and press Enter."""
        self.line.fill(question)
        self.line.press("Enter")
        self.box.locator("[aria-busy=true]").wait_for()

    def done(self):
        """Wait for the end of the reply; the status line's words."""
        self.tab.wait_for_function(
            "box => !box.querySelector('[aria-busy=true]') && /tokens?[/]s/.test(box.innerText)",
            arg=self.box.element_handle(),
        )
        return self.status.inner_text()


def _send_and_read(page, chat):
    """A reply comes word by word, what was typed is shown as typed, and the line is free for the next question."""
    chat.line.scroll_into_view_if_needed()
    chat.ask("How can I sleep <b>better</b>?")
    lengths = set()
    while chat.box.locator("[aria-busy=true]").count():
        lengths.add(len(chat.replies.last.inner_text()))
        page.tab.wait_for_timeout(20)
    assert "context:" in chat.done() and chat.replies.count() == 1
    assert len(lengths) > 2, "the reply came all at once"
    assert chat.line.input_value() == "" and chat.line.evaluate("line => line === document.activeElement")
    assert "How can I sleep <b>better</b>?" in chat.questions.last.inner_text()


def _write_lines(page, chat):
    """Shift+Enter begins a new line and runs no cell; what is pasted keeps its lines; Enter sends them all."""
    count = page.tab.locator(".jp-Cell").count()
    chat.line.press_sequentially("Shorter:")
    chat.line.press("Shift+Enter")
    page.tab.evaluate("() => navigator.clipboard.writeText('one\\n  two')")
    chat.line.press("Control+V")
    assert chat.line.input_value() == "Shorter:\none\n  two"
    chat.line.press("Enter")
    page.tab.wait_for_function("line => line.value === ''", arg=chat.line.element_handle())
    chat.done()
    assert chat.questions.count() == 2 and page.tab.locator(".jp-Cell").count() == count
    assert chat.questions.last.inner_text() == "Shorter:\none\n  two"


def _look(page, chat):
    """Light, dark, and as narrow as a phone: it can be read, and nothing hangs out at the side."""
    chat.button("Settings").click()
    page.theme("JupyterLab Dark")
    assert _contrast(chat.replies.last) > 4.5 and _contrast(chat.status) > 4.5
    page.theme("JupyterLab Light")
    page.command("application:toggle-left-area")
    page.tab.set_viewport_size({"width": 360, "height": 800})
    hanging = """box => [...box.querySelectorAll('.bz-bubble, pre, button, input, textarea')].filter(
        part => part.getBoundingClientRect().right > box.getBoundingClientRect().right).length"""
    assert chat.box.evaluate(hanging) == 0
    page.tab.set_viewport_size({"width": 1280, "height": 900})
    page.command("application:toggle-left-area")


def _stop_and_regenerate(chat):
    """With 1,024 tokens and the highest temperature a reply is long enough to be stopped by the mouse."""
    for name, value in (("Temperature", "2"), ("Max tokens", "1024")):
        chat.box.get_by_label(name).fill(value)
        chat.box.get_by_label(name).press("Tab")
    asked, replies = chat.questions.all_inner_texts(), chat.replies.count()
    for _ in range(5):  # now and then one ends by itself before the button is reached
        old = chat.replies.last.inner_text()
        chat.button("Regenerate").click()
        chat.tab.wait_for_function(
            "([box, old]) => { const last = [...box.querySelectorAll('.bz-assistant .bz-bubble')].at(-1); "
            "return last && last.innerText !== '…' && last.innerText !== old }",
            arg=[chat.box.element_handle(), old],
        )
        chat.button("Stop").dispatch_event("click")  # it may have become grey meanwhile
        if "stopped" in chat.done():
            break
    assert "stopped" in chat.status.inner_text() and chat.box.locator(".bz-note").last.inner_text() == "stopped"
    assert (chat.questions.all_inner_texts(), chat.replies.count()) == (asked, replies)
    for name, value in (("Temperature", "0"), ("Max tokens", "24")):
        chat.box.get_by_label(name).fill(value)
        chat.box.get_by_label(name).press("Tab")


def _edit_by_keyboard(chat):
    """Tab from the line to Edit, press it, change the question, send it."""
    asked = chat.questions.all_inner_texts()
    chat.line.focus()
    for _ in range(8):
        chat.tab.keyboard.press("Tab")
        if chat.tab.evaluate("() => document.activeElement.innerText.trim()") == "Edit":
            break
    chat.tab.keyboard.press("Space")
    chat.tab.wait_for_function("line => line.value !== ''", arg=chat.line.element_handle())
    assert chat.line.input_value() == asked[-1] and chat.questions.all_inner_texts() == asked[:-1]
    chat.ask("How do I wake up early?")
    chat.done()
    assert chat.questions.all_inner_texts() == [*asked[:-1], "How do I wake up early?"]


def _switch_reload_and_clear(page, chat):
    """Each model has a conversation of its own, which lives in the kernel: a reload of the page shows it again."""
    chat.button("before tuning").click()
    chat.box.get_by_text("No messages yet").wait_for()
    chat.button("after tuning").click()
    chat.box.get_by_text("How do I wake up early?").wait_for()
    asked = chat.questions.all_inner_texts()
    page.tab.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.tab.reload()
    chat.questions.first.wait_for()
    assert chat.questions.all_inner_texts() == asked
    chat.ask("Are you still there?")
    chat.done()
    assert chat.replies.count() == len(asked) + 1
    chat.button("Clear").click()
    chat.box.get_by_text("No messages yet").wait_for()
    assert chat.replies.count() == 0 and chat.status.inner_text().startswith("ready")
    assert chat.button("Regenerate").is_disabled()


ECHO = """
from baize_nb.chat import Conversation

class Echo(Conversation):
    def _write(self, messages):
        yield messages[-1]["content"], 1

echo = ChatWidget(Echo(), threaded=False)
for echo.text.value in {texts}:
    echo.send.click()
echo
"""
TEXTS = [
    "<img src=x onerror=harm(1)>",
    "<svg><script>harm(1)</script></svg><style>@import 'https://leak.test/a.css'</style>",
    "![x](https://leak.test/pixel.png) <iframe src=https://leak.test/b></iframe>",
    "[x](javascript:harm(1)) \u202etxt.exe",
]


def _do_no_harm(page):
    """Hostile texts in JupyterLab itself; many more: test_hostile.py."""
    ran, asked = [], []
    page.tab.expose_function("harm", lambda what: ran.append(what))
    page.tab.on("request", lambda request: asked.append(request.url))
    chat = Chat(page.tab, page.add(ECHO.replace("{texts}", repr(TEXTS))))
    chat.replies.nth(len(TEXTS) - 1).wait_for()
    assert chat.replies.first.inner_text() == TEXTS[0] and "⟨U+202E⟩" in chat.replies.nth(3).inner_text()
    assert ran == [] and not any("leak.test" in url for url in asked)


COMPARE = """
from baize_nb import common
from baize_nb.widgets import CompareWidget

rivals = {name: EndpointSession(engine, max_new_tokens=12) for name in ("before tuning", "after tuning")}
CompareWidget(rivals, common.runs() / "votes.jsonl")
"""


def _compare(page):
    """One question, two replies side by side, a vote, and only then the names."""
    chat = Chat(page.tab, page.add(COMPARE))
    chat.ask("What is a fever?")
    page.tab.wait_for_function("e => !e.disabled", arg=chat.button("The same").element_handle())
    left, right = (chat.replies.nth(i).bounding_box() for i in (0, 1))
    assert chat.replies.count() == 2 and left["y"] == right["y"] and left["x"] < right["x"]
    above = chat.box.locator(".bz-chat").first
    assert "tuning" not in above.inner_text() and "tuning" not in chat.status.inner_text()
    chat.button("Left is better").click()
    chat.box.get_by_text("Left: ").wait_for()
    assert "before tuning" in above.inner_text() and "after tuning" in above.inner_text()
    assert "better 1 of 1" in chat.box.inner_text()


BROWSER = """
from baize_nb import widgets
from baize_nb.corpus import Dialogue
said = [{"role": "user", "content": "<img src=x onerror=window.stolen=1>"}, {"role": "assistant", "content": "no"}]
pool = [Dialogue(f"d-{i}", source="s", messages=said) for i in range(20)]
widgets.Browser(pool, {"loop": {"d-3": "it turns"}})
"""


def _use_the_keys(page):
    """In the browser of dialogues the arrow keys step and Tab reaches every part; text stays text."""
    box, tab = page.add(BROWSER), page.tab
    box.get_by_text("1 of 20").wait_for()
    box.locator(".noUi-handle").focus()
    for key, expected in (("ArrowRight", 2), ("ArrowLeft", 1), ("End", 20), ("ArrowLeft", 19), ("Home", 1)):
        tab.keyboard.press(key)
        box.get_by_text(f"{expected} of 20", exact=True).wait_for(timeout=20_000)
    box.locator("select").first.focus()
    reached = []
    for _ in range(5):
        reached.append(tab.evaluate("() => document.activeElement.tagName + ' ' + document.activeElement.innerText"))
        tab.keyboard.press("Tab")
    assert [part.split()[0] for part in reached] == ["SELECT", "SELECT", "INPUT", "BUTTON", "DIV"]
    assert "Next" in reached[3]
    assert "<img src=x" in box.locator(".bz-bubble").first.inner_text()
    assert tab.evaluate("() => window.stolen") is None


def _contrast(bubble):
    """WCAG contrast of a bubble's text against the first ground behind it that is not see-through."""
    colors = bubble.evaluate(
        """e => {
            const color = getComputedStyle(e).color;
            const solid = c => c && c !== 'transparent' && !/, 0\\)$/.test(c);
            while (e.parentElement && !solid(getComputedStyle(e).backgroundColor)) e = e.parentElement;
            return [color, getComputedStyle(e).backgroundColor];
        }"""
    )
    bright = []
    for color in colors:
        parts = [float(x) / 255 for x in re.findall(r"[\d.]+", color)[:3]]
        r, g, b = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        bright.append(0.2126 * r + 0.7152 * g + 0.0722 * b)  # relative luminance
    return (max(bright) + 0.05) / (min(bright) + 0.05)
