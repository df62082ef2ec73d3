"""CompareWidget without a browser: nobody sees the names before the vote, and no vote is lost."""

import json

import pytest

from baize_nb.chat import ChatSession
from baize_nb.common import CourseError
from baize_nb.widget import CompareWidget, votes


def session(base, **options):
    return ChatSession(*base, **{"max_new_tokens": 4, "temperature": 0, **options})


def compare(base, path=None, threaded=False, **options):
    sessions = {name: session(base, **options) for name in ("Romeo", "Juliet")}
    return CompareWidget(sessions, path, threaded=threaded)


def ask(widget, question="What is rain?"):
    widget.text.value = question
    widget.send.click()
    assert widget.wait(60)


def page(widget):
    """All that can be read above the votes."""
    return widget.view.value.split("</style>")[1] + widget.status.value


def enabled(widget):
    return [choice for choice, part in widget.ballot.items() if not part.disabled]


@pytest.mark.parametrize("threaded", [False, True])
def test_the_names_are_hidden_until_the_vote(base, threaded):
    widget = compare(base, threaded=threaded)
    assert enabled(widget) == []
    ask(widget, "What is <b>rain</b>?")
    assert "Romeo" not in page(widget) and "Juliet" not in page(widget) and "&lt;b&gt;rain" in page(widget)
    assert enabled(widget) == ["left", "right", "same", "bad"] and widget.votes.cast == []
    widget.ballot["left"].click()
    left, right = widget.votes.cast[0]["left"], widget.votes.cast[0]["right"]
    assert f"Left: {left}" in page(widget) and f"Right: {right}" in page(widget)
    assert {left, right} == {"Romeo", "Juliet"} and enabled(widget) == []
    widget.ballot["right"].click()  # the second half of a double click
    assert widget.votes.tally() == {left: (1, 1), right: (1, 0)}


def test_each_reply_stands_on_the_side_of_its_model(base):
    widget = CompareWidget({"long": session(base, max_new_tokens=9), "short": session(base)}, threaded=False)
    for _ in range(3):
        ask(widget)
        widget.ballot["same"].click()
    for vote in widget.votes.cast:
        for side in votes.SIDES:
            assert vote[f"{side}_reply"] == widget.sessions[vote[side]].messages[-1]["content"]
            assert vote["settings"][side]["max_new_tokens"] == {"long": 9, "short": 4}[vote[side]]
    assert widget.votes.ties() == {"same": 3, "bad": 0}


def test_every_question_starts_a_new_conversation(base):
    widget = compare(base)
    ask(widget, "What is rain?")
    ask(widget, "And snow?")
    assert [len(one.messages) for one in widget.sessions.values()] == [2, 2]
    assert widget.votes.cast == [] and "What is rain?" not in widget.view.value


def test_the_draw_depends_on_seed_and_turn_alone_and_is_fair():
    names = ["a", "b"]
    drawn = [votes.draw(names, 0, turn) for turn in range(400)]
    assert drawn == [votes.draw(names, 0, turn) for turn in range(400)]
    assert drawn != [votes.draw(names, 1, turn) for turn in range(400)]
    assert 160 < drawn.count(("a", "b")) < 240 and set(drawn) == {("a", "b"), ("b", "a")}
    assert {frozenset(votes.draw(["a", "b", "c"], 0, turn)) for turn in range(50)} == set(
        map(frozenset, ("ab", "bc", "ac"))
    )


def test_votes_are_kept_in_a_file_and_counted_from_it(base, tmp_path):
    path = tmp_path / "votes.jsonl"
    widget = compare(base, path)
    ask(widget)
    widget.ballot["right"].click()
    ask(widget)
    widget.ballot["bad"].click()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == widget.votes.cast and [line["choice"] for line in lines] == ["right", "bad"]
    path.write_text(path.read_text(encoding="utf-8") + '{"choice": "le', encoding="utf-8")  # a kill in mid-write
    again = compare(base, path)
    assert again.votes.cast == lines and "both bad</th><td>1" in again.tally.value
    ask(again)
    again.ballot["same"].click()
    assert [vote["choice"] for vote in votes.read(path)] == ["right", "bad", "same"]


def test_a_file_of_something_else_is_refused_by_its_line(base, tmp_path):
    path = tmp_path / "votes.jsonl"
    for line in ("[]", "no json", '{"choice": "left"}', '{"choice": "up", "left": "a", "right": "b"}'):
        path.write_text(f"\n{line}\n")
        with pytest.raises(CourseError, match=r"votes\.jsonl:2 is not a vote"):
            compare(base, path)


def test_a_vote_that_cannot_be_written_can_be_cast_again(base, tmp_path):
    path = tmp_path / "votes.jsonl"
    widget = compare(base, path)
    ask(widget)
    path.mkdir()
    widget.ballot["left"].click()
    assert "alert" in widget.status.value and widget.votes.cast == [] and "Romeo" not in page(widget)
    path.rmdir()
    widget.ballot["left"].click()
    assert len(votes.read(path)) == 1 and enabled(widget) == []


@pytest.mark.parametrize("threaded", [False, True])
def test_an_error_leaves_the_question_and_no_vote(base, threaded):
    widget = compare(base, threaded=threaded)

    def broken(ids):
        raise MemoryError("no <room>")

    for one in widget.sessions.values():
        clear = one.clear

        def clear_and_break(one=one, clear=clear):
            clear()
            one._reader.logits = broken

        one.clear = clear_and_break
    ask(widget)
    assert "MemoryError: no &lt;room&gt;" in widget.status.value and widget.text.value == "What is rain?"
    assert enabled(widget) == [] and not widget.send.disabled


def test_stop_ends_the_reply_that_is_being_written(base):
    widget = compare(base, threaded=True, max_new_tokens=400, repetition_penalty=1.3)
    widget.text.value = "Tell me everything about rivers."
    widget.send.click()
    assert widget.busy and not widget.stop.disabled and widget.send.disabled
    while widget.busy:  # both replies are stopped, each after its first words
        widget.stop.click()
        widget.wait(0.5)
    assert all(one.last.tokens < 400 for one in widget.sessions.values() if one.last)


def test_it_takes_two_new_and_different_sessions(base):
    one = session(base)
    with pytest.raises(CourseError, match="two sessions"):
        CompareWidget({"one": one})
    with pytest.raises(CourseError, match="two sessions"):
        CompareWidget({"one": one, "two": one})
    one.messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "end": "stop"}]
    with pytest.raises(CourseError, match="'one' holds a conversation"):
        CompareWidget({"one": one, "two": session(base)})


def test_where_no_widget_can_be_shown_there_are_words(base):
    assert compare(base)._repr_mimebundle_()["text/plain"] == (
        "A blind comparison of Romeo, Juliet: run this cell to use it."
    )
