"""Checks of notebook 02: count the requests, cut a reply, write the human's request, parse a transcript."""

from . import Wrong, call, exercise, expect, table

WHO_SPEAKS = "write down who speaks in a dialogue of two turns: question (the seed), answer, question, answer."
SEED_IS_FREE = "the first question is the seed: you have it, so nobody is asked for it."
QUESTIONS_COST = "each question but the first is a request as well, not only the answers."


@exercise(
    "the seed costs no request. Every other message costs one.",
    "turns answers, and turns - 1 questions.",
)
def requests(answer):
    """Exercise 1. `answer(turns)` → requests that open-header needs for a dialogue of that many turns."""
    table(answer, [((n,), 2 * n - 1, WHO_SPEAKS, (2 * n, SEED_IS_FREE), (n, QUESTIONS_COST)) for n in (1, 2, 5)])


LAST_MARK = 'look for the last ".", "!" or "?" that ends a sentence; everything behind it goes.'
MARK_STAYS = "the mark itself belongs to the sentence: cut behind it, not before it."
ALL_MARKS = 'a sentence may also end with "!" or "?": look for all three marks.'
NO_SENTENCE = "where no sentence is whole, nothing can be kept: return an empty text."
NOT_FIRST = "keep all whole sentences: it is the last mark that counts, not the first."
IN_A_NUMBER = "the point in 3.5 ends no sentence: a mark does so only before a space, or at the end of the text."
TRIMS = (  # (text, right, hint)
    ("Yes. Take a loaf and", "Yes.", LAST_MARK),
    ("Stop. Wait. And th", "Stop. Wait.", NOT_FIRST),
    ("Really? Why not! And th", "Really? Why not!", ALL_MARKS),
    ("One whole sentence.", "One whole sentence.", "a text that ends with a mark is whole already: leave it."),
    ("no end in sight", "", NO_SENTENCE),
    ("It costs 3.5 euros and", "", IN_A_NUMBER),
    ("It is cheap. It costs 3.5 euros and", "It is cheap.", IN_A_NUMBER),
    ("It is cheap.\nIt costs", "It is cheap.", "a sentence may also end with its line: any white space will do."),
)


@exercise(
    "go through the places from the end: the first mark with white space, or nothing, behind it is where to cut.",
    "for i in reversed(range(len(text))): if text[i] in '.!?' and not text[i + 1 : i + 2].strip(): "
    "return text[: i + 1]",
)
def trim(answer):
    """Exercise 2. `answer(text)` → the text up to its last whole sentence, "" if there is none."""
    table(answer, [((text,), right, hint, (right[:-1] or None, MARK_STAYS)) for text, right, hint in TRIMS])


WORDING = "They talk about {seed}. Their chat so far:\n{transcript}\n[Human]"
TALK = [
    {"role": "user", "content": "Why is ice slippery?"},
    {"role": "assistant", "content": "A thin layer of it melts."},
    {"role": "user", "content": "Always?"},
    {"role": "assistant", "content": "Less so far below zero."},
]
HISTORY = "a chat history is answered as an assistant would. Here the talk is told inside one user message instead."
ONE_MESSAGE = 'a list with one message: [{"role": "user", "content": …}].'
USER = 'the request itself comes from a user, whoever is played in it: "role": "user".'
GAPS = 'fill both gaps: prompt.replace("{seed}", seed_text) is the first, "{transcript}" the second.'
ALL_OF_IT = "the whole talk belongs in the prompt, each message on a line of its own; nothing left out."
MARKERS = "[Human] stands before what the user said, [AI] before what the assistant said."


@exercise(
    'names = {"user": "[Human]", "assistant": "[AI]"}; a line is f"{names[m[\'role\']]} {m[\'content\']}".',
    'talk = "\\n".join(of these lines); both gaps of prompt replaced, as content of one user message, in a list.',
)
def human_request(answer):
    """Exercise 3. `answer(prompt, seed_text, messages)` → the request for the next question: one user message."""
    for talk in (TALK[:2], TALK):
        got = call(answer, WORDING, "ice", talk, hint=ONE_MESSAGE)
        lines = [f"{'[Human]' if m['role'] == 'user' else '[AI]'} {m['content']}" for m in talk]
        right = WORDING.replace("{seed}", "ice").replace("{transcript}", "\n".join(lines))
        if isinstance(got, list) and got[-len(talk) :] == talk:
            raise Wrong("you send the talk as a chat history.", HISTORY)
        if not (isinstance(got, list) and len(got) == 1 and isinstance(got[0], dict)):
            raise Wrong(f"a list of one message was expected, you returned {got!r}.", ONE_MESSAGE)
        expect(got[0].get("role"), "user", "the role", USER)
        content, hint = str(got[0].get("content")), ALL_OF_IT
        if "{seed}" in content or "{transcript}" in content or "about ice." not in content:
            hint = GAPS
        elif all(m["content"] in content for m in talk) and not all(line in content for line in lines):
            hint = MARKERS
        expect(content, right, "the content", hint)


OPENS = "go through the lines: [Human] or [AI] at the start of one opens a message."
GOES_ON = "a line without a marker goes on with the last message: add '\\n' and the line to its content."
UNANSWERED = "at the end, drop the last message if it is a user message: it has no answer."
KEEP_LAST = "go on to the end: only a question without an answer is dropped, and the last exchange here is whole."
AT_THE_START = "a marker counts only at the start of a line: [AI] inside a sentence is a word of that sentence."
STRIP = "the space behind a marker is no part of what was said: take it off with .strip()."
ONE = "[Human] Why is ice slippery?\n[AI] A thin layer of it melts."
TWO = f"{ONE}\n[Human] Always?\n[AI] Less so far below zero."
WRAPPED = "A thin layer of it\nmelts."
ASKED, SAID = "What does [AI] mean?", "It is the line of the AI; yours has [Human] in front."
PARSES = (  # (text, right, hint)
    (TWO, TALK, OPENS),
    (ONE, TALK[:2], KEEP_LAST),
    (f"[Human] Why is ice slippery?\n[AI] {WRAPPED}", [TALK[0], TALK[1] | {"content": WRAPPED}], GOES_ON),
    (TWO + "\n[Human] When", TALK, UNANSWERED),
    ("Sure, here it is:\n" + TWO, TALK, OPENS),
    (f"[Human] {ASKED}\n[AI] {SAID}", [TALK[0] | {"content": ASKED}, TALK[1] | {"content": SAID}], AT_THE_START),
    ("", [], OPENS),
)


@exercise(
    "keep a list of messages; at a marker append a new one with its role, else add to the content of the last one.",
    "after the loop: if messages and messages[-1]['role'] == 'user': messages.pop()",
)
def parse(answer):
    """Exercise 4. `answer(text)` → messages of a transcript with [Human] and [AI] at the start of a line."""
    rows = []
    for text, right, hint in PARSES:
        unstripped = [{**m, "content": " " + m["content"]} for m in right]
        rows.append(((text,), right, hint, (right[:-2], KEEP_LAST), (unstripped, STRIP)))
    table(answer, rows)
