"""Checks of notebook 02: count the requests, cut a reply, write the human's request, parse a transcript."""

from . import Wrong, call, exercise

WHO_SPEAKS = "write down who speaks in a dialogue of two turns: question (the seed), answer, question, answer."
SEED_IS_FREE = "the first question is the seed: you have it, so nobody is asked for it."
QUESTIONS_COST = "each question but the first is a request as well, not only the answers."


@exercise(
    "the seed costs no request. Every other message costs one.",
    "turns answers, and turns - 1 questions.",
)
def requests(answer):
    """Exercise 1. `answer(turns)` → requests that open-header needs for a dialogue of that many turns."""
    for turns, right in ((1, 1), (2, 3), (5, 9)):
        got = call(answer, turns, hint=WHO_SPEAKS)
        if got != right:
            hint = {2 * turns: SEED_IS_FREE, turns: QUESTIONS_COST}.get(got, WHO_SPEAKS)
            raise Wrong(f"for {turns} turn(s) you say {got!r}.", hint)


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
    for text, right, hint in TRIMS:
        got = call(answer, text, hint=hint)
        if got != right:
            raise Wrong(f"{text!r} became {got!r}, not {right!r}.", MARK_STAYS if right and got == right[:-1] else hint)


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
ALL_OF_IT = "the whole talk belongs into the prompt, each message on a line of its own; nothing left out."
MARKERS = "[Human] stands before what the user said, [AI] before what the assistant said."


@exercise(
    'names = {"user": "[Human]", "assistant": "[AI]"}; a line is f"{names[m[\'role\']]} {m[\'content\']}".',
    'talk = "\\n".join(of these lines); both gaps of prompt replaced, as content of one user message, in a list.',
)
def human_request(answer):
    """Exercise 3. `answer(prompt, seed_text, messages)` → the request for the next question: one user message."""
    for talk in (TALK[:2], TALK):
        got = call(answer, WORDING, "ice", [dict(message) for message in talk], hint=ONE_MESSAGE)
        lines = [f"{'[Human]' if m['role'] == 'user' else '[AI]'} {m['content']}" for m in talk]
        right = WORDING.replace("{seed}", "ice").replace("{transcript}", "\n".join(lines))
        if got == [{"role": "user", "content": right}]:
            continue
        if isinstance(got, list) and got[-len(talk) :] == talk:
            raise Wrong("you send the talk as a chat history.", HISTORY)
        if not (
            isinstance(got, list) and len(got) == 1 and isinstance(got[0], dict) and {"role", "content"} <= {*got[0]}
        ):
            raise Wrong(f"a list of one message was expected, you returned {got!r}.", ONE_MESSAGE)
        if got[0]["role"] != "user":
            raise Wrong(f"your message has the role {got[0]['role']!r}.", USER)
        content = str(got[0]["content"])
        if "{seed}" in content or "{transcript}" in content or "about ice." not in content:
            raise Wrong(f"the prompt is not filled in: {content!r}", GAPS)
        if any(m["content"] not in content for m in talk):
            raise Wrong(f"something that was said is missing: {content!r}", ALL_OF_IT)
        hint = MARKERS if any(line not in content for line in lines) else ALL_OF_IT
        raise Wrong(f"you wrote {content!r}, and {right!r} would be right.", hint)


OPENS = "go through the lines: [Human] or [AI] at the start of one opens a message."
GOES_ON = "a line without a marker goes on with the last message: add '\\n' and the line to its content."
UNANSWERED = "at the end, drop the last message if it is a user message: it has no answer."
NOBODYS = "what stands before the first marker belongs to nobody: leave it out."
EMPTY = "an empty text has no messages: return an empty list."
KEEP_LAST = "go on to the end: only a question without an answer is dropped, and the last exchange here is whole."
AT_THE_START = "a marker counts only at the start of a line: [AI] inside a sentence is a word of that sentence."
STRIP = "the space behind a marker is no part of what was said: take it off with .strip()."
ONE = "[Human] Why is ice slippery?\n[AI] A thin layer of it melts."
TWO = f"{ONE}\n[Human] Always?\n[AI] Less so far below zero."
WRAPPED = "[Human] Why is ice slippery?\n[AI] A thin layer of it\nmelts."
WRAPPED_TALK = [TALK[0], {"role": "assistant", "content": "A thin layer of it\nmelts."}]
QUOTED = "[Human] What does [AI] mean?\n[AI] It is the line of the AI; yours has [Human] in front."
QUOTED_TALK = [
    {"role": "user", "content": "What does [AI] mean?"},
    {"role": "assistant", "content": "It is the line of the AI; yours has [Human] in front."},
]
PARSES = (  # (text, right, what it is, hint)
    (TWO, TALK, "two exchanges, a line each", OPENS),
    (ONE, TALK[:2], "one exchange", KEEP_LAST),
    (WRAPPED, WRAPPED_TALK, "one exchange, on three lines", GOES_ON),
    (TWO + "\n[Human] When", TALK, "a last human turn without an answer", UNANSWERED),
    ("Sure, here it is:\n" + TWO, TALK, "words before the first marker", NOBODYS),
    (QUOTED, QUOTED_TALK, "an exchange that speaks about the markers", AT_THE_START),
    ("", [], "an empty text", EMPTY),
)


@exercise(
    "keep a list of messages; at a marker append a new one with its role, else add to the content of the last one.",
    "after the loop: if messages and messages[-1]['role'] == 'user': messages.pop()",
)
def parse(answer):
    """Exercise 4. `answer(text)` → messages of a transcript with [Human] and [AI] at the start of a line."""
    for text, right, what, hint in PARSES:
        got = call(answer, text, hint=hint)
        if got == right:
            continue
        if got and right and got == right[:-2]:
            hint = KEEP_LAST
        elif _stripped(got) == right:
            hint = STRIP
        raise Wrong(f"not yet right for {what}. You returned {got!r}", hint)


def _stripped(messages):
    """The messages without white space around their contents; None where they are no messages."""
    try:
        return [{"role": m["role"], "content": m["content"].strip()} for m in messages]
    except (TypeError, KeyError, AttributeError):
        return None
