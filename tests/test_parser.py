"""The parser for what models write: each variant and fault by name, then any text at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import common, transcript
from baize_nb.transcript import LAST, UNANSWERED, UNASKED

REPLIES = [
    json.loads(line)
    for line in (common.DATA / "transcripts" / "replies.jsonl").read_text(encoding="utf-8").splitlines()
]
# id: exchanges that our parser keeps, and that Baize's rule keeps.
KEPT = {
    "clean-bread": (3, 2),
    "clean-one": (1, 0),
    "open-question": (2, 2),
    "bars": (2, 0),
    "colons": (2, 0),
    "bold": (2, 0),
    "headings": (2, 0),
    "full-width": (2, 0),
    "no-first-marker": (2, 0),
    "two-humans": (2, 0),
    "two-answers": (2, 0),
    "code": (2, 2),
    "fenced": (2, 1),
    "crlf": (2, 1),
    "talk-around": (2, 1),
    "the-end": (2, 2),
    "empty-turns": (2, 0),
    "lost-answer": (2, 1),
    "refusal": (0, 0),
    "plain-answer": (0, 0),
}


def said(text):
    """Contents of the messages of a transcript, after a look at their roles."""
    parsed = transcript.parse(text)
    assert [m["role"] for m in parsed.messages] == ["user", "assistant"] * parsed.kept
    return [m["content"] for m in parsed.messages]


@pytest.mark.parametrize(
    ("human", "ai"),
    [
        ("[Human]", "[AI]"),
        ("[|Human|]", "[|AI|]"),
        ("[human]:", "[ai]:"),
        ("  [HUMAN]", "\t[AI]"),
        ("[User]", "[Assistant]"),
        ("[Human]", "[AI Assistant]"),
        ("**[Human]**", "**[AI]**"),
        ("**[Human]:**", "**[AI]**:"),
        ("### [Human]", "### [AI]"),
        ("【Human】", "【AI】"),
        ("［Human］：", "［AI］："),
        ("【｜Human｜】", "【｜AI｜】"),
        ("Human:", "AI:"),
        ("Human：", "AI："),
        ("User:", "Assistant:"),
        ("Human:", "AI Assistant:"),
        ("HUMAN:", "ASSISTANT:"),
        ("**Human**:", "**AI**:"),
        ("**Human:**", "**AI:**"),
        ("_Human:_", "__AI__:"),
        ("### Human:", "### Assistant:"),
        ("## **User:**", "## **Assistant:**"),
    ],
)
def test_each_way_to_write_the_markers(human, ai):
    text = f"Sure!\n{human} a?\n{ai} b\nsecond line\n\n{human}\nc?\n\n{ai}\n**d**"
    assert said(text) == ["a?", "b\nsecond line", "c?", "**d**"]
    assert transcript.parse(text).reason == ""


@pytest.mark.parametrize(
    ("text", "contents", "reason"),
    [
        ("[Human] a?\n[AI] b\n[Human] c?", ["a?", "b"], LAST),
        ("[Human] a?\n[AI] b\n[Human] c?\n[AI]", ["a?", "b"], LAST),
        ("[Human] a?\n[Human] b?\n[AI] c", ["b?", "c"], UNANSWERED),
        ("[Human] a?\n[AI] b\n[AI] c\n[Human] d?\n[AI] e", ["a?", "b", "d?", "e"], UNASKED),
        ("[AI] b\n[AI] c\n[Human] d?\n[AI] e", ["d?", "e"], UNASKED + " (2 times)"),
        ("[Human] a?\n[AI]\n[Human] b?\n[AI] c", ["b?", "c"], UNANSWERED),
        ("[Human] a?\n[AI]\n[AI] b", ["a?", "b"], ""),
        ("[Human] a?\n[Human]\n[AI] b", ["a?", "b"], ""),
        ("[Human] a?\n[AI] b\n[Human]\n[AI] c", ["a?", "b"], UNASKED),
        ("[Human]\n[AI]", [], "no exchange: an empty turn"),
        ("[Human] Hello!\n[AI] Hi, how can I help you?", [], "no exchange: a greeting"),
        ("", [], "no role markers"),
        ("It rains.", [], "no role markers"),
        ("I cannot do that.", [], "no role markers: it reads like a refusal"),
        ("I’m sorry, but no.", [], "no role markers: it reads like a refusal"),
    ],
)
def test_each_fault_costs_no_more_than_its_own_turn(text, contents, reason):
    assert said(text) == contents
    assert transcript.parse(text).reason == reason


def test_what_is_cut_is_named_with_its_reason():
    parsed = transcript.parse(
        "Here you are:\n[Human] a?\n[Human] b?\n[AI] c\n[AI] d\n[Human]\n[Human] e?\n\n(The end.)"
    )
    assert parsed.cut == [
        ("Here you are:", "before the transcript"),
        ("[Human] a?", UNANSWERED),
        ("[AI] d", UNASKED),
        ("[Human]", "an empty turn"),
        ("[Human] e?", LAST),
        ("(The end.)", "after the transcript"),
    ]


@pytest.mark.parametrize(
    ("before", "human"),
    [
        ("Why is ice slippery?\n", "Why is ice slippery?"),
        ("Sure, here it is:\n\nWhy is ice slippery?\nI wonder.\n\n", "Why is ice slippery?\nI wonder."),
        ("```\nWhy is ice slippery?\n", "Why is ice slippery?"),
        ("Sure, here it is:\n", None),
        ("", None),
    ],
)
def test_words_before_a_first_answer_are_the_humans(before, human):
    rest = ["Always?", "No."]
    text = before + "[AI] A thin layer of water.\n[Human] Always?\n[AI] No."
    assert said(text) == ([human, "A thin layer of water."] if human else []) + rest
    cut = "".join(words for words, _ in transcript.parse(text).cut)
    assert "".join(cut.split()) == "".join(before.replace(human or "", "").split()) + "[AI]Athinlayerofwater." * (
        not human
    )


@pytest.mark.parametrize(
    "greeting",
    [
        "[Human] Hello!\n[AI] Hi! How can I help you?",
        "[Human] Hi there!\n[AI] Hello! I am an AI assistant. How may I assist you today?",
        "[AI] Hello, how can I help you today?",
    ],
)
def test_a_greeting_at_the_start_is_left_out_and_is_no_fault(greeting):
    parsed = transcript.parse(greeting + "\n[Human] a?\n[AI] b")
    assert [m["content"] for m in parsed.messages] == ["a?", "b"]
    assert parsed.reason == ""
    assert {why for _, why in parsed.cut} == {"a greeting"}


def test_a_question_that_begins_with_hello_is_no_greeting():
    assert said("[Human] Hello! Why is it dark?\n[AI] Hi, how can I help you?") == [
        "Hello! Why is it dark?",
        "Hi, how can I help you?",
    ]


@pytest.mark.parametrize(
    "after",
    [
        "[End]",
        "(The conversation ends here.)",
        "**[End of Conversation]**",
        "End of transcript.",
        "---",
        "\n\nI hope this helps!",
        "\n\nLet me know if you need another one.",
        "\n\nNote: This conversation is made up.\nNobody said it.",
        "---\n\nI hope this conversation is what you wanted.",
    ],
)
def test_words_after_the_transcript_are_left_out(after):
    parsed = transcript.parse(f"[Human] a?\n[AI] b.\n{after}")
    assert [m["content"] for m in parsed.messages] == ["a?", "b."]
    assert parsed.reason == ""
    assert "".join("".join(text for text, _ in parsed.cut).split()) == "".join(after.split())
    assert {why for _, why in parsed.cut} == {"after the transcript"}


@pytest.mark.parametrize(
    "answer",
    [
        "while true do\nend",
        "First.\n\nNote: ask a doctor.",
        "First.\n\nThe dialogue is by Plato.",
        "I hope this year is dry.",
        "It was fun.\nThe end of the story is sad.",
        "a | b\n--- | ---",
    ],
)
def test_an_answer_keeps_its_own_last_words(answer):
    assert said(f"[Human] a?\n[AI] {answer}") == ["a?", answer]


@pytest.mark.parametrize("fence", ["```", "~~~", "````", "1. ```", "> ```"])
def test_a_marker_in_a_code_block_is_none(fence):
    end = fence.split()[-1]
    code = f"{fence}text\n[Human] x\n[AI] y\n{end}\ndone"
    assert said(f"[Human] a?\n[AI] b\n{code}\n[Human] c?\n[AI] d") == ["a?", f"b\n{code}", "c?", "d"]
    code = f"{end}\n[Human] x\n{end}"
    assert said(f"[Human] a?\n[AI] {code}\n[Human] c?\n[AI] d") == ["a?", code, "c?", "d"]


def test_brackets_in_the_code_of_a_transcript_without_brackets():
    code = "```\n[Human] x\n[AI] y\n```"
    assert said(f"Human: a?\nAI: b\n{code}\nHuman: c?\nAI: d") == ["a?", f"b\n{code}", "c?", "d"]


def test_a_code_block_that_is_never_closed_swallows_nothing():
    assert said("[Human] a?\n[AI] ```python\nx = 1\n[Human] c?\n[AI] d") == ["a?", "```python\nx = 1", "c?", "d"]
    text = "[Human] a?\n[AI] ```python\nx = 1\n[Human] c?\n[AI] so:\n```python\ny = 2\n```\n[Human] e?\n[AI] f"
    assert said(text) == ["a?", "```python\nx = 1", "c?", "so:\n```python\ny = 2\n```", "e?", "f"]


def test_a_code_block_round_the_whole_transcript_is_taken_off():
    inside = "```text\n[Human] a?\n[AI] so:\n```python\nx\n```\n[Human] c?\n[AI] d\n```"
    for text in (inside, f"Here it is:\n\n{inside}\nI hope this helps.\n", f"{inside}\n\n[End]"):
        assert said(text) == ["a?", "so:\n```python\nx\n```", "c?", "d"]


def test_names_without_brackets_are_content_where_names_have_brackets():
    assert said("[Human] a?\nUser: x\n[AI] b\nHuman: y\nAI: z") == ["a?\nUser: x", "b\nHuman: y\nAI: z"]


def test_only_the_first_spelling_of_a_bare_name_counts():
    answer = "b\nUser: admin\nuser: admin\nAI: short for artificial intelligence"
    assert said(f"Human: a?\nAssistant: {answer}\nHuman: c?\nAssistant: d") == ["a?", answer, "c?", "d"]


@pytest.mark.parametrize(
    "prose",
    [
        "Roles in this file.\nAI: the program.\nAssistant: its helper.",
        "user: admin\nai: off",
        "A human: somebody.\nAn AI: something.",
        "[AI](https://example.org) is a field.",
        "Human rights\nAI safety",
        "Say [Human] or [AI] here.",
    ],
)
def test_ordinary_prose_has_no_markers(prose):
    parsed = transcript.parse(prose)
    assert (parsed.messages, parsed.reason, parsed.cut) == ([], "no role markers", [(prose, "no role markers")])


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems(end):
    text = end.join(["[Human] a?", "[AI] b", "c", "[Human] d?", "[AI] e"])
    assert said(text) == ["a?", "b\nc", "d?", "e"]


# The replies that the course ships


def test_the_shipped_replies_are_the_ones_that_the_course_speaks_of():
    assert [r["id"] for r in REPLIES] == list(KEPT)
    assert all(sorted(r) == ["id", "reply", "what"] and r["what"] and r["reply"] for r in REPLIES)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda r: r["id"])
def test_exchanges_kept_by_both_rules(reply):
    ours, theirs = transcript.parse(reply["reply"]), transcript.original_rule(reply["reply"])
    assert (ours.kept, theirs.kept) == KEPT[reply["id"]]
    transcript.check(ours.messages)


def test_ours_keeps_more_in_all_and_never_less():
    assert all(ours >= theirs for ours, theirs in KEPT.values())
    assert sum(transcript.parse(r["reply"]).kept for r in REPLIES) == 36
    assert sum(transcript.original_rule(r["reply"]).kept for r in REPLIES) == 12


# Any text at all

FRAGMENTS = [
    "[Human]",
    "[AI]",
    "[|Human|]",
    "[|AI|]",
    "【Human】",
    "［AI］",
    "Human:",
    "AI:",
    "**User:**",
    "### Assistant:",
]
FRAGMENTS += [
    "```",
    "```py",
    "~~~",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    " ",
    "Hello!",
    "Hi! How can I help you?",
    "zebra",
    "zoo?",
]
FRAGMENTS += ["Sure, here it is:", "[End]", "I hope this helps zzz.", "---", "\\", "[\\|AI|]", "\x00", "\u2028", "ß"]
WILD = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=40).map("".join)


def normal(text):
    return text.replace("\r\n", "\n").replace("\r", "\n")


@settings(deadline=None)
@given(WILD | st.text(st.characters(), max_size=300))
def test_parse_never_raises_and_never_invents(text):
    contents = said(text)
    assert all(content and content in normal(text) for content in contents)
    if contents:
        transcript.check(transcript.parse(text).messages)


@settings(deadline=None)
@given(WILD)
def test_parse_accounts_for_every_word(text):
    parsed = transcript.parse(text)
    found = "".join([m["content"] for m in parsed.messages] + [words for words, _ in parsed.cut])
    assert found.count("z") == text.count("z")
    assert found.count("ß") == text.count("ß")
    assert all(words in normal(text) and why for words, why in parsed.cut)
    assert parsed.kept or parsed.reason


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "x", "y z"])), max_size=12))
def test_every_answer_next_to_its_question_is_kept(turns):
    marks = {"a": "[Human]", "b": "[AI]"}
    parsed = transcript.parse("\n".join(f"{marks[who]} {text}" for who, text in turns))
    spoken = "".join(who for who, text in turns if text)
    assert parsed.kept == spoken.count("ab")


@pytest.mark.parametrize(
    "part", ["[Human] ", "[AI]\n", "```\n[Human]\n", "Human: a\n", "x" * 50, "\n[End]", " ", "#", "<|"]
)
def test_a_reply_of_a_megabyte_is_read(part):
    text = "[Human] a?\n[AI] b\n" + part * (1_000_000 // len(part))
    assert said(text)[0] == "a?"
    safe = transcript.escape(text)
    assert transcript.parse(safe).kept == 0
