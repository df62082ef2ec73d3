"""ChatWidget without a browser: what its buttons do, and that nothing a model or a person writes becomes HTML."""

import re
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import markdown, models
from baize_nb.chat import ChatSession
from baize_nb.widget import ChatWidget, bubble


@pytest.fixture(scope="module")
def base():
    return models.load()


def session(base, **options):
    return ChatSession(*base, **{"max_new_tokens": 5, "temperature": 0, **options})


def press_enter(text):
    """What the browser sends when Enter is pressed in a text line."""
    text._handle_custom_msg({"event": "submit"}, [])


def test_a_click_on_send_shows_question_and_reply(base):
    chat = ChatWidget(session(base), threaded=False)
    chat.text.value = "What is <b>rain</b>?"
    chat.send.click()
    assert "What is &lt;b&gt;rain&lt;/b&gt;?" in chat.view.value
    reply = chat.session.messages[-1]["content"]
    assert reply and markdown.render(reply) in chat.view.value
    assert chat.text.value == "" and not chat.busy and not chat.send.disabled
    assert "5 tokens" in chat.status.value and "token limit" in chat.status.value


def test_enter_sends_and_nothing_warns(base):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat = ChatWidget(session(base), threaded=False)
        chat.text.value = "What is rain?"
        press_enter(chat.text)
    assert len(chat.session.messages) == 2


def test_typing_without_enter_and_an_empty_line_send_nothing(base):
    chat = ChatWidget(session(base), threaded=False)
    chat.text.value = "half a quest"
    assert chat.session.messages == []
    chat.text.value = "   "
    chat.send.click()
    assert chat.session.messages == [] and "ready" in chat.status.value


def test_a_reply_in_a_thread_can_be_stopped_and_cleared(base):
    chat = ChatWidget(session(base, max_new_tokens=400, repetition_penalty=1.3), threaded=True)
    chat.text.value = "Tell me everything about rivers."
    chat.send.click()
    assert chat.busy and not chat.stop.disabled and chat.send.disabled and "writing" in chat.status.value
    chat.text.value = "impatient"
    press_enter(chat.text)
    assert chat.text.value == "impatient"
    chat.stop.click()
    assert chat.wait(60)
    assert chat.session.last.end == "stopped" and chat.session.last.tokens < 400
    assert "stopped" in chat.status.value and chat.stop.disabled and not chat.send.disabled
    chat.send.click()
    chat.clear.click()
    assert not chat.busy and chat.session.messages == [] and "No messages yet" in chat.view.value


def test_the_picker_switches_between_conversations(base):
    chat = ChatWidget({"one <i>": session(base), "two": session(base)}, threaded=False)
    chat.text.value = "Only for one?"
    chat.send.click()
    assert "one &lt;i&gt;" in chat.view.value and "<i>" not in chat.view.value
    chat.picker.value = "two"
    assert "Only for one?" not in chat.view.value and chat.session.messages == []
    chat.picker.value = "one <i>"
    assert "Only for one?" in chat.view.value


@pytest.mark.parametrize("threaded", [False, True])
def test_an_error_is_shown_and_the_question_is_not_lost(base, threaded):
    chat = ChatWidget(session(base), threaded=threaded)

    def broken(ids):
        raise MemoryError("no <room>")

    chat.session._reader.logits = broken
    chat.text.value = "Hello?"
    chat.send.click()
    assert chat.wait(60)
    assert "MemoryError: no &lt;room&gt;" in chat.status.value
    assert chat.text.value == "Hello?" and not chat.send.disabled and chat.session.messages == []


def test_a_message_that_is_too_long_is_explained_and_stays_in_its_line(base):
    chat = ChatWidget(session(base, context=64), threaded=False)
    chat.text.value = "word " * 200
    chat.send.click()
    assert "too long" in chat.status.value and "CourseError" not in chat.status.value
    assert chat.text.value.startswith("word word")


def test_where_no_widget_can_be_shown_there_are_words(base):
    shown = ChatWidget({"before": session(base), "after": session(base)})._repr_mimebundle_()
    assert shown["text/plain"] == "Chat with before, after: run this cell to use it."
    assert "application/vnd.jupyter.widget-view+json" in shown


EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](https://example.org/pixel.png)",
    "<a href='javascript:alert(1)'>x</a>",
    '[x](https://example.org "onmouseover=alert(1)")',
    "```\n</code></pre><script>alert(1)</script>\n```",
    "<style>* {display: none}</style>",
    "`<svg onload=alert(1)>`",
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_a_model_writes_runs_or_fetches(text):
    made = bubble("AI", "assistant", text)
    for harm in ("<script", "<img", "<svg", "<style", 'href="javascript', 'href="data', " onmouseover", "<a href='"):
        assert harm not in made
    assert "<script" not in bubble("AI", "user", text) and "<img" not in bubble("AI", "user", text)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(["<", ">", "a", '"', "'", "&", "`", "[", "](", ")", "javascript:", "\n", "on=", "/", "!", "*"])
    )
)
def test_only_the_named_tags_ever_come_out(parts):
    made = markdown.render("".join(parts))
    assert set(re.findall(r"</?([a-zA-Z0-9]+)", made)) <= markdown.TAGS
    assert not re.search(r"<[^>]*\son\w*=", made)


def test_markdown_is_rendered():
    made = markdown.render(
        "**b** *i* `c`\n\n- one\n- two\n\n|a|b|\n|-|-|\n|1|2|\n\n```python\nx = 1 < 2\n```\n[w](https://a.org)"
    )
    for part in (
        "<strong>b</strong>",
        "<em>i</em>",
        "<li>one</li>",
        "<td>1</td>",
        "x = 1 &lt; 2",
        'href="https://a.org"',
    ):
        assert part in made
    assert 'target="_blank"' in made and "noopener" in made
