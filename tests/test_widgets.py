"""The widgets without a browser: what their parts do, that nothing a person wrote is lost, that text stays text."""

import json
import signal
import threading
import warnings

import pytest
from talks import Scripted, session, tiny

from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue
from baize_nb.widgets import Browser, ChatWidget, CompareWidget, browser, html


@pytest.fixture(scope="module")
def base():
    return tiny()


def talk(session, *questions, threaded=False):
    """A widget in which these questions were asked."""
    chat = ChatWidget(session, threaded=threaded)
    for question in questions:
        ask(chat, question)
    return chat


def ask(widget, question="What is rain?"):
    widget.text.value = question
    widget.send.click()
    assert widget.wait(60)


def contents(widget):
    return [message["content"] for message in widget.session.messages]


# ---- chat


@pytest.mark.parametrize("threaded", [False, True])
def test_a_click_on_send_shows_question_and_reply(threaded):
    chat = talk(Scripted(["**Water** ", "<i>falls</i>."], context=500), "What is <b>rain</b>?", threaded=threaded)
    assert "What is &lt;b&gt;rain&lt;/b&gt;?" in chat.view.value
    assert "<strong>Water</strong> &lt;i&gt;falls&lt;/i&gt;." in chat.view.value and chat.live.value == ""
    assert chat.text.value == "" and not chat.busy and not chat.send.disabled
    tokens, size = chat.session.used
    assert "2 tokens," in chat.status.value and "token limit" in chat.status.value
    assert f"context: {tokens} of 500 tokens" in chat.status.value and 0 < tokens < size == 500


def test_enter_sends_the_lines_before_it_keeps_what_was_typed_later_and_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat = ChatWidget(Scripted(), threaded=False)
        for typed in ("def f():\n    return 1\n", "   "):
            chat.text.value = typed
            assert chat.session.messages == []
        chat.send.click()  # nothing was typed
        assert chat.again.disabled and chat.change.disabled and chat.export.disabled
        chat.again.click()
        chat.change.click()
        assert chat.session.messages == [] and "No messages yet" in chat.view.value
        chat.text.value = f"def f():\n    return 1\n{html.ENTER}And"
    assert contents(chat) == ["def f():\n    return 1"] * 2 and chat.text.value == "And"
    assert "def f():\n    return 1</div>" in chat.view.value


def test_a_reply_in_a_thread_can_be_stopped_and_cleared(base):
    chat = ChatWidget(session(base, max_new_tokens=4000, temperature=1.0), threaded=True)
    chat.text.value = "Tell me everything about rivers."
    chat.send.click()
    assert chat.busy and not chat.stop.disabled and chat.send.disabled and "writing" in chat.status.value
    chat.text.value = f"impatient{html.ENTER}"
    assert chat.text.value.endswith("impatient")
    chat.stop.click()
    assert chat.wait(60)
    assert chat.session.last.end == "stopped" and chat.session.last.tokens < 4000
    assert "stopped" in chat.status.value and chat.stop.disabled and not chat.send.disabled
    chat.send.click()
    chat.clear.click()
    assert not chat.busy and chat.session.messages == [] and "No messages yet" in chat.view.value


def test_the_picker_switches_between_conversations_and_their_settings():
    odd = {"temperature": 3.5, "top_p": 0.01, "repetition_penalty": 0.9, "max_new_tokens": 3000}
    chat = talk({"one <i>": Scripted(), "two": Scripted(**odd)}, "Only for one?")
    assert "one &lt;i&gt;" in chat.view.value and "<i>" not in chat.view.value
    chat.controls["temperature"].value, chat.controls["max_new_tokens"].value = 0.5, 7
    assert (chat.session.temperature, chat.session.max_new_tokens, chat.session.top_p) == (0.5, 7, 0.95)
    chat.picker.value = "two"
    assert "Only for one?" not in chat.view.value and chat.session.messages == []
    assert {name: getattr(chat.session, name) for name in odd} == odd  # showing changes nothing
    assert chat.controls["max_new_tokens"].value == 3000
    chat.controls["top_p"].value = 0.5
    assert {name: getattr(chat.session, name) for name in odd} == odd | {"top_p": 0.5}
    chat.picker.value = "one <i>"
    assert "Only for one?" in chat.view.value
    assert chat.controls["temperature"].value == 0.5 and chat.session.top_p == 0.95
    shown = chat._repr_mimebundle_()
    assert shown["text/plain"] == "Chat with one <i>, two: run this cell to use it."
    assert "application/vnd.jupyter.widget-view+json" in shown


@pytest.mark.parametrize("threaded", [False, True])
def test_an_error_is_shown_and_neither_the_question_nor_what_was_typed_meanwhile_is_lost(threaded):
    def type_on():
        chat.text.value = "And another thing"

    chat = ChatWidget(Scripted([type_on, MemoryError("no <room>")]), threaded=threaded)
    ask(chat, "Hello?")
    assert "MemoryError: no &lt;room&gt;" in chat.status.value and "alert" in chat.status.value
    assert chat.text.value == "Hello?\nAnd another thing" and not chat.send.disabled and chat.session.messages == []
    chat.session.context = 64
    ask(chat, "word " * 200)
    assert "too long" in chat.status.value and "CourseError" not in chat.status.value
    assert chat.text.value.startswith("word word")


def test_regenerate_writes_another_reply_and_edit_takes_the_question_back():
    chat = talk(Scripted(["One."], ["Two."], ["Three."], [MemoryError()], ["Four."]), "What is rain?", "And snow?")
    chat.text.value = "a draft"
    for _ in range(2):  # the second one fails: the old reply stays
        chat.again.click()
        assert contents(chat) == ["What is rain?", "One.", "And snow?", "Three."]
    assert "alert" in chat.status.value
    assert chat.view.value.count("And snow?") == 1 and chat.live.value == "" and chat.text.value == "a draft"
    chat.change.click()
    assert chat.text.value == "And snow?\na draft" and contents(chat) == ["What is rain?", "One."]
    ask(chat, "And hail?")
    assert contents(chat) == ["What is rain?", "One.", "And hail?", "Four."] and "And snow?" not in chat.view.value


def test_save_says_where_and_never_writes_over_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path))
    chat = talk({"My <model>": Scripted()}, "What is rain?")
    chat.export.click()
    chat.export.click()
    first, second = sorted(tmp_path.rglob("chats/*"))
    assert (first.name, second.name) == ("my-model-1.jsonl", "my-model-2.jsonl") and second.name in chat.status.value
    again = Scripted()
    again.load(first)
    assert again.messages == chat.session.messages
    monkeypatch.setenv("BAIZE_RUNS", str(first))
    chat.export.click()
    assert "alert" in chat.status.value and len(chat.session.messages) == 2


def test_in_the_foreground_the_kernels_interrupt_stops_a_reply():
    interrupt = lambda: signal.raise_signal(signal.SIGINT)  # noqa: E731
    chat = talk(Scripted(["Rivers ", interrupt, "never said"]), "Tell me about rivers.")
    assert contents(chat) == ["Tell me about rivers.", "Rivers"] and chat.session.last.end == "stopped"
    assert not chat.busy and not chat.send.disabled and chat.text.value == ""
    assert 'bz-note">stopped' in chat.view.value


def test_two_widgets_on_one_session_refuse_and_lose_nothing():
    go = threading.Event()
    shared = Scripted(["One", lambda: go.wait(60), " two.", None])
    first, second = ChatWidget(shared, threaded=True), ChatWidget(shared, threaded=True)
    first.text.value = "first question"
    first.send.click()
    second.text.value = "second question"
    second.send.click()
    assert second.wait(60) and second.text.value == "second question" and "being written" in second.status.value
    for refused in (shared.undo, lambda: shared.stream("Hello?")):
        with pytest.raises(CourseError, match="being written"):
            refused()
    go.set()
    assert first.wait(60)
    second.send.click()
    assert second.wait(60) and contents(first) == ["first question", "One two.", "second question", "One two."]
    assert "first question" in second.view.value and "second question" in second.view.value
    go.clear()
    first.text.value = "third"
    first.send.click()
    threading.Timer(0.2, go.set).start()
    second.clear.click()  # stops what the other one has written, then forgets
    assert first.wait(60) and shared.messages == []


# ---- compare


def compare(path, threaded=False, **scripts):
    scripts = scripts or {"Romeo": ["I am."], "Juliet": ["Wherefore?"]}
    return CompareWidget({name: Scripted(script) for name, script in scripts.items()}, path, threaded)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "votes.jsonl"


def page(widget):
    """All that can be read above the votes."""
    return widget.view.value.split("</style>")[1] + widget.status.value


def enabled(widget):
    return [choice for choice, part in widget.ballot.items() if not part.disabled]


@pytest.mark.parametrize("threaded", [False, True])
def test_the_names_are_hidden_until_the_vote(path, threaded):
    widget = compare(path, threaded)
    assert enabled(widget) == []
    ask(widget, "What is <b>rain</b>?")
    assert "Romeo" not in page(widget) and "Juliet" not in page(widget) and "&lt;b&gt;rain" in page(widget)
    assert enabled(widget) == ["left", "right", "same", "bad"] and widget.votes.cast == []
    widget.ballot["left"].click()
    left, right = widget.votes.cast[0]["left"], widget.votes.cast[0]["right"]
    assert f"Left: {left}" in page(widget) and f"Right: {right}" in page(widget)
    assert {left, right} == {"Romeo", "Juliet"} and enabled(widget) == []
    widget.ballot["right"].click()  # the second half of a double click
    assert len(widget.votes.cast) == 1
    assert f"{left} better 1 of 1" in widget.tally.value and f"{right} better 0 of 1" in widget.tally.value
    assert widget._repr_mimebundle_()["text/plain"] == "A blind comparison of Romeo, Juliet: run this cell to use it."


def test_each_reply_stands_on_the_side_of_its_model_and_every_vote_is_kept(path):
    widget, sides = compare(path), []
    for turn in range(60):
        ask(widget, f"Question {turn}?")
        assert [len(one.messages) for one in widget.sessions.values()] == [2, 2]  # each a new conversation
        widget.ballot[("same", "bad", "right")[turn % 3]].click()
    for vote in widget.votes.cast:
        for side in ("left", "right"):
            assert vote[f"{side}_reply"] == {"Romeo": "I am.", "Juliet": "Wherefore?"}[vote[side]]
            assert vote["settings"][side] == widget.sessions[vote[side]].settings()
        sides.append(vote["left"])
    assert 10 < sides.count("Romeo") < 50 and "the same 20" in widget.tally.value
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == widget.votes.cast and lines[1]["choice"] == "bad"
    path.write_text(path.read_text(encoding="utf-8") + '{"choice": "le', encoding="utf-8")  # a kill in mid-write
    again = compare(path)
    assert again.votes.cast == lines and "both bad 20" in again.tally.value
    ask(again)
    again.ballot["same"].click()
    assert len(compare(path).votes.cast) == 61
    for line in ("[]", "no json", '{"choice": "left"}', '{"choice": "up", "left": "a", "right": "b"}'):
        path.write_text(f"\n{line}\n")
        with pytest.raises(CourseError, match=r"votes\.jsonl:2 is no vote"):
            compare(path)


def test_a_vote_that_cannot_be_written_can_be_cast_again(path):
    widget = compare(path)
    ask(widget)
    path.unlink()
    path.mkdir()
    widget.ballot["left"].click()
    assert "alert" in widget.status.value and widget.votes.cast == [] and "Romeo" not in page(widget)
    path.rmdir()
    widget.ballot["left"].click()
    assert len(compare(path).votes.cast) == 1 and enabled(widget) == []


def test_an_error_leaves_the_question_and_no_vote(path):
    widget = compare(path, True, Romeo=[MemoryError("no <room>")], Juliet=[MemoryError("no <room>")])
    ask(widget)
    assert "MemoryError: no &lt;room&gt;" in widget.status.value and widget.text.value == "What is rain?"
    assert enabled(widget) == [] and not widget.send.disabled


def test_it_takes_two_new_and_different_sessions(path):
    one = Scripted()
    for sessions in ({"one": one}, {"one": one, "two": one}):
        with pytest.raises(CourseError, match="two sessions"):
            CompareWidget(sessions, path)
    one.answer("Hi")
    with pytest.raises(CourseError, match="'one' holds a conversation"):
        CompareWidget({"one": one, "two": Scripted()}, path)


# ---- browser of dialogues


def pool():
    """Three dialogues of one source, one of another."""
    said = {f"n-{n}": (f"What is {n}?", f"A number, {n}.") for n in range(3)} | {"h": ("A heron?", "A bird.")}
    return [
        Dialogue(
            name,
            question,
            "alpaca-style" if name == "h" else "quora-style",
            messages=[{"role": "user", "content": question}, {"role": "assistant", "content": reply}],
        )
        for name, (question, reply) in said.items()
    ]


def test_the_browser_steps_filters_and_searches():
    view = Browser(pool(), notes={"h": "removed by <echo>"})
    assert view.where.value == "1 of 4" and view.back.disabled
    view.forth.click()
    assert view.where.value == "2 of 4" and "n-1" in view.view.value and view.position.value == 2
    view.source.value = "alpaca-style"
    assert view.where.value == "1 of 1" and view.forth.disabled and "removed by &lt;echo&gt;" in view.view.value
    view.source.value, view.search.value = browser.ALL, "HERON"
    assert view.where.value == "1 of 1" and "<mark>heron</mark>" in view.view.value
    view.search.value = "no such word"
    view.forth.click()
    assert view.where.value == "no dialogue" and view.forth.disabled and view.back.disabled
    view.search.value, view.position.value = "", 4
    view.forth.click()  # stops at the end
    assert view.where.value == "4 of 4" and view.forth.disabled and ">h · " in view.view.value
    view.position.value, view.search.value = 3, "number"
    assert view.where.value == "1 of 3" and view.position.max == 3
    assert "0 dialogues" in Browser([])._repr_mimebundle_()["text/plain"]


def test_the_browser_filters_by_rule_and_says_what_the_rules_saw():
    found = {"loop": {"n-1": "it <repeats>", "h": "it turns"}, "echo": {"h": "an echo"}, "toxic": {}}
    view = Browser(pool(), found, notes={"h": "look here"})
    assert [value for _, value in view.rule.options] == [browser.ANY, browser.OBJECTED, browser.FINE, "loop", "echo"]
    view.rule.value = "loop"
    assert view.where.value == "1 of 2" and "loop: it &lt;repeats&gt;" in view.view.value
    view.forth.click()
    assert all(text in view.view.value for text in ("look here", "loop: it turns", "echo: an echo"))
    view.rule.value = browser.FINE
    assert view.where.value == "1 of 2" and "n-0" in view.view.value
    assert "bz-note" not in view.view.value.split("</style>")[1]
    view.rule.value, view.source.value = browser.OBJECTED, "alpaca-style"
    assert view.where.value == "1 of 1"
