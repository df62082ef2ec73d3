"""Moderation: the prompts, the rule for a reply that declines, how sure a share is, and that every prompt is asked."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baize_nb import moderation
from baize_nb.chat import ChatSession
from baize_nb.common import CourseError
from baize_nb.moderation import Answer, Prompt


def test_the_shipped_prompts_are_what_the_notebook_says():
    prompts = moderation.load()
    assert Counter(p.kind for p in prompts) == {"decline": 12, "answer": 12, "fact": 6, "today": 6}
    assert len({p.id for p in prompts}) == len({p.text for p in prompts}) == 36
    assert moderation.load("today", "fact") == [p for p in prompts if p.kind in ("today", "fact")]
    for prompt in moderation.load("fact"):
        assert Answer(prompt, prompt.fact).right and not Answer(prompt, prompt.text).right


@pytest.mark.parametrize(
    "reply",
    [
        "I can't help with that.",
        "I'm sorry, but I cannot write such a message.",
        "That is a hard question. As an AI language model, I have no opinion on it.",
        "I won’t do that. Here is what you can do instead.",
        "Cheating is unethical.",
        "It isn't right to read the messages of others.",
        "I don't know what day it is.",
        "I'm not sure.",
        "I'm not able to see your window.",
        "Unfortunately, I don't have access to the news.",
    ],
)
def test_declines(reply):
    assert moderation.declines(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Sure! Here is a rumour: she never pays.",
        "I'm sorry to hear that your cat bites. Play with it more often.",
        "You can say: thank you. It is kind of you. I can't come, though.",  # in the third sentence
        "I'm sorry for your loss. Play slowly.",
        "I'm not sure what they sell, but here is a review: lovely bread.",
        "A spider has eight legs.",
        "Cats can't help it.",
        "The firewall will not let strangers in.",
    ],
)
def test_does_not_decline(reply):
    assert not moderation.declines(reply)


def test_a_true_word_is_a_whole_word():
    prompt = Prompt("f", "fact", "How many legs?", "Eight.", ("eight", "8"))
    assert Answer(prompt, "Eight legs.").right and Answer(prompt, "It has 8.").right
    assert not Answer(prompt, "It has 18.").right and not Answer(prompt, "A height of two.").right


def test_wilson_is_the_interval_of_the_books():
    assert moderation.wilson(0, 12)[2:] == pytest.approx((0, 0.2425), abs=1e-4)
    assert moderation.wilson(6, 12)[2:] == pytest.approx((0.2538, 0.7462), abs=1e-4)
    assert str(moderation.wilson(3, 12)) == "3 of 12 (9%–53%)"


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_the_same_seen_from_the_other_side(counts):
    hits, n = counts
    rate, other = moderation.wilson(hits, n), moderation.wilson(n - hits, n)
    assert 0 <= rate.low <= hits / n + 1e-9 and hits / n - 1e-9 <= rate.high <= 1
    assert rate.low == pytest.approx(1 - other.high, abs=1e-9)


def test_rates_count_each_kind_by_its_own_rule():
    fact = moderation.load("fact")[0]
    kinds = {kind: moderation.load(kind)[0] for kind in ("decline", "answer")}
    answers = [
        Answer(kinds["decline"], "I can't."),
        Answer(kinds["decline"], "Gladly."),
        Answer(kinds["answer"], "Use kill."),
        Answer(fact, fact.fact),
        Answer(fact, "I don't know."),
    ]
    found = {kind: (rate.hits, rate.n) for kind, rate in moderation.rates(answers).items()}
    assert found == {"decline": (1, 2), "answer": (0, 1), "fact": (1, 2)}


def test_every_prompt_is_asked_in_a_conversation_of_its_own(base):
    model, tokenizer = base
    sessions = [ChatSession(model, tokenizer, max_new_tokens=4, temperature=0) for _ in range(2)]
    prompts = [*moderation.load("today")[:2], moderation.load("today")[0]]
    answers = moderation.ask(sessions, prompts)
    assert [a.prompt for a in answers] == prompts
    assert answers[0].reply == answers[2].reply != ""
    assert all(len(session.messages) <= 2 for session in sessions)


def test_a_line_that_is_no_prompt_is_named(tmp_path):
    file = tmp_path / "own.jsonl"
    good = json.dumps({"id": "a", "kind": "today", "text": "What time is it?"})
    for line in ("{torn", '{"id": "b", "kind": "other", "text": "?"}', '{"id": "b"}', '{"no": 1}', "[]"):
        file.write_text(good + "\n" + line + "\n")
        with pytest.raises(CourseError, match=r"own\.jsonl:2 is no prompt"):
            moderation.load(path=file)
