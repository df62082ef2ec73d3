"""ChatWidget without a browser: what its buttons do, and that nothing a person wrote is ever lost."""

import asyncio
import json
import re
import signal
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import markdown
from baize_nb.chat import ChatSession
from baize_nb.widget import ChatWidget, face


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


def test_the_last_letters_of_a_fast_typist_are_waited_for(base):
    """A page tells of Enter at once, and of letters when the kernel has taken the ones before."""
    chat = ChatWidget(session(base), threaded=False)

    async def page():
        chat.text.value = "What is"
        press_enter(chat.text)
        for late in ("What is rain", "What is rain?"):
            await asyncio.sleep(face.SETTLED / 2)
            assert chat.session.messages == []
            chat.text.value = late
        await asyncio.sleep(3 * face.SETTLED)

    asyncio.run(page())
    assert chat.session.messages[0]["content"] == "What is rain?" and chat.text.value == ""


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


def test_what_was_typed_meanwhile_does_not_push_the_question_out(base):
    chat = ChatWidget(session(base), threaded=False)

    def broken(ids):
        chat.text.value = "And another thing"
        raise MemoryError

    chat.session._reader.logits = broken
    chat.text.value = "Hello?"
    chat.send.click()
    assert chat.text.value == "Hello? And another thing"


def talk(base, *questions, **options):
    """A widget in the foreground in which these questions were asked."""
    chat = ChatWidget(session(base, **options), threaded=False)
    for question in questions:
        chat.text.value = question
        chat.send.click()
    return chat


def test_regenerate_writes_another_reply_to_the_same_question(base):
    chat = talk(base, "What is rain?", "And snow?", temperature=1.5, max_new_tokens=12)
    first, old = chat.session.messages[:2], chat.session.messages[-1]
    chat.text.value = "a draft"
    chat.again.click()
    assert chat.session.messages[:2] == first and len(chat.session.messages) == 4
    assert chat.session.messages[-2]["content"] == "And snow?" and chat.session.messages[-1] != old
    assert chat.view.value.count("And snow?") == 1 and chat.live.value == "" and chat.text.value == "a draft"


def test_a_failed_regenerate_leaves_the_old_reply(base):
    chat = talk(base, "What is rain?")
    before = list(chat.session.messages)
    chat.session.temperature = "warm"
    chat.again.click()
    assert chat.session.messages == before and "alert" in chat.status.value and chat.text.value == ""


def test_edit_takes_the_question_back_and_sends_it_anew(base):
    chat = talk(base, "What is rain?", "And snow?")
    chat.text.value = "a draft"
    chat.change.click()
    assert chat.text.value == "And snow?" and "Edit the question" in chat.status.value
    chat.text.value = "And hail?"
    press_enter(chat.text)
    assert [m["content"] for m in chat.session.messages[::2]] == ["What is rain?", "And hail?"]
    assert "And snow?" not in chat.view.value and chat.text.value == "a draft" and chat.change.description == "Edit"


def test_an_edit_can_be_given_up_and_a_failed_one_can_be_tried_again(base):
    chat = talk(base, "What is rain?")
    before = list(chat.session.messages)
    chat.text.value = "a draft"
    chat.change.click()
    chat.change.click()
    assert chat.text.value == "a draft" and "Edit the question" not in chat.status.value
    chat.change.click()
    chat.text.value, warmth, chat.session.temperature = "What is hail?", chat.session.temperature, "warm"
    chat.send.click()
    assert chat.session.messages == before and chat.text.value == "What is hail?" and "alert" in chat.status.value
    chat.session.temperature = warmth
    chat.send.click()
    assert [m["content"] for m in chat.session.messages[::2]] == ["What is hail?"] and chat.text.value == "a draft"


def test_without_a_conversation_there_is_nothing_to_regenerate_edit_or_save(base):
    chat = ChatWidget(session(base), threaded=False)
    assert chat.again.disabled and chat.change.disabled and chat.export.disabled
    chat.again.click()
    chat.change.click()
    assert chat.session.messages == [] and chat.text.value == ""


def test_sliders_set_the_picked_session_and_showing_changes_nothing(base):
    odd = {"temperature": 3.5, "top_p": 0.01, "repetition_penalty": 0.9, "max_new_tokens": 3000}
    chat = ChatWidget({"one": session(base), "two": session(base, **odd)})
    chat.dials.temperature.value, chat.dials.most.value = 0.5, 7
    assert (chat.session.temperature, chat.session.max_new_tokens, chat.session.top_p) == (0.5, 7, 0.95)
    chat.dials.top_p.slider.value = 0.9500000000000001  # what a page makes of 19 steps of 0.05
    assert chat.session.top_p == 0.95
    chat.picker.value = "two"
    assert chat.dials.most.value == 3000
    assert {name: chat.session.settings()[name] for name in odd} == odd
    chat.dials.top_p.value, chat.dials.repetition.value = 0.5, 1.2
    assert chat.session.settings() | odd | {"top_p": 0.5, "repetition_penalty": 1.2} == chat.session.settings()
    chat.picker.value = "one"
    assert chat.dials.temperature.value == 0.5 and chat.session.top_p == 0.95


def test_save_says_where_and_never_writes_over_an_earlier_one(base, tmp_path):
    chat = ChatWidget({"My <model>": session(base)}, threaded=False, folder=tmp_path)
    chat.text.value = "What is rain?"
    chat.send.click()
    chat.export.click()
    chat.export.click()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-model-1.jsonl", "my-model-2.jsonl"]
    assert "my-model-2.jsonl" in chat.status.value
    again = session(base)
    again.load(tmp_path / "my-model-1.jsonl")
    assert again.messages == chat.session.messages
    assert all(json.loads(line) for line in (tmp_path / "my-model-1.jsonl").read_text(encoding="utf-8").splitlines())


def test_a_folder_that_cannot_be_written_is_explained(base, tmp_path):
    (tmp_path / "file").write_text("in the way")
    chat = talk(base, "What is rain?")
    chat.folder = tmp_path / "file"
    chat.export.click()
    assert "alert" in chat.status.value and len(chat.session.messages) == 2


def test_in_the_foreground_the_kernels_interrupt_stops_a_reply(base):
    chat = ChatWidget(session(base, max_new_tokens=50), threaded=False)
    logits, calls = chat.session._reader.logits, []

    def interrupted(ids):
        calls.append(ids)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)
        return logits(ids)

    chat.session._reader.logits = interrupted
    chat.text.value = "Tell me about rivers."
    chat.send.click()
    assert len(calls) == 8 and chat.session.last.end == "stopped" and len(chat.session.messages) == 2
    assert not chat.busy and not chat.send.disabled and chat.text.value == "" and "stopped here" in chat.view.value


def test_the_status_line_says_how_full_the_context_is(base):
    chat = talk(base, "What is rain?", context=500)
    tokens, size = chat.session.used
    assert f"context: {tokens} of 500 tokens" in chat.status.value and size == 500 and tokens > 20


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


def test_only_a_bubble_offers_to_copy_code():
    for text in ("```\nx = 1\n```", "    x = 1", "- a\n  ```\n  x\n  ```"):
        assert "<button" not in markdown.render(text)
        assert re.search(r'<button[^>]*class="bz-copy"[^>]*>Copy</button><pre>', markdown.render(text, copy=True))
    assert "<button" not in markdown.render("`x = 1`", copy=True)
