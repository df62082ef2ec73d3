"""The Baize format: render, prompt, parse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baize_nb import transcript

CHAT = [
    {"role": "user", "content": "Why is the sea salty?"},
    {"role": "assistant", "content": "Rivers carry salt into it."},
    {"role": "user", "content": "And lakes?"},
    {"role": "assistant", "content": "Most have an outlet."},
]


def test_render_has_preamble_markers_and_stop_after_each_answer():
    text = transcript.render(CHAT, eos="<end>")
    assert text.startswith(transcript.PREAMBLE)
    assert text.count(transcript.HUMAN) == text.count(transcript.AI) == 2
    assert text.count("<end>") == 2
    assert "Rivers carry salt into it.<end>\n[|Human|] And lakes?\n[|AI|]" in text


def test_only_answers_and_their_stop_are_learned():
    learned = [text for text, learn in transcript.pieces(CHAT, eos="<end>") if learn]
    assert learned == [" Rivers carry salt into it.<end>", " Most have an outlet.<end>"]


def test_prompt_is_the_beginning_of_the_training_text():
    assert transcript.render(CHAT, "<end>").startswith(transcript.prompt(CHAT[:3], "<end>"))
    assert transcript.prompt(CHAT[:1]).endswith(transcript.AI)


@pytest.mark.parametrize("messages", [[], CHAT[:2]])
def test_prompt_wants_a_question_at_the_end(messages):
    with pytest.raises(ValueError, match="end with a user message"):
        transcript.prompt(messages)


@pytest.mark.parametrize("messages", [CHAT[1:2], [CHAT[0], CHAT[0]], [{"role": "user", "content": "  "}]])
def test_check_refuses_wrong_order_and_empty_messages(messages):
    with pytest.raises(ValueError, match="message"):
        transcript.check(messages)


@pytest.mark.parametrize(("human", "ai"), [("[Human]", "[AI]"), ("[|Human|]", "[|AI|]"), ("[human]:", "[ai]:")])
def test_parse_keeps_every_whole_exchange(human, ai):
    text = f"Sure!\n{human} a?\n{ai} b\nsecond line\n{human} c?\n{ai} d"
    parsed = transcript.parse(text)
    assert [m["content"] for m in parsed.messages] == ["a?", "b\nsecond line", "c?", "d"]
    assert parsed.kept == 2
    assert parsed.reason == ""


@pytest.mark.parametrize(
    ("text", "kept", "word"),
    [
        ("I cannot do that.", 0, "no role markers"),
        ("[Human] a?\n[AI] b\n[Human] c?", 1, "no answer"),
        ("[Human] a?\n[Human] b?\n[AI] c", 0, "expected assistant"),
        ("[AI] hello\n[Human] a?\n[AI] b", 0, "expected user"),
        ("[Human] a?\n[AI]\n[Human] b?\n[AI] c", 0, "empty"),
    ],
)
def test_parse_says_what_it_cut_and_why(text, kept, word):
    parsed = transcript.parse(text)
    assert parsed.kept == kept
    assert word in parsed.reason


def test_parse_takes_a_trailing_marker_as_a_plain_end():
    assert transcript.parse(transcript.render(CHAT) + "[|Human|] ") == (CHAT, 2, "")


LINE = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="[]"), min_size=1).map(str.strip)
TURN = LINE.filter(bool)


@given(st.lists(st.tuples(TURN, TURN), min_size=1, max_size=4))
def test_parse_undoes_render(turns):
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    assert transcript.parse(transcript.render(messages)).messages == messages


@given(st.text(alphabet=st.sampled_from("ab \n[]|HumanAI:"), max_size=200))
def test_parse_never_raises_and_never_invents(text):
    parsed = transcript.parse(text)
    assert len(parsed.messages) == 2 * parsed.kept
    assert all(m["content"] in text for m in parsed.messages)
