"""Checks of notebook 02: count the requests, cut a reply, write the human's request, parse a transcript.

Knows: what a right answer does, and which mistake a wrong one points to. Does not know: how the student wrote it.
The first hint fits the mistake; the others say more about the way.
"""

from . import attempt, report

_WHO_SPEAKS = "write down who speaks in a dialogue of two turns: question (the seed), answer, question, answer."
_SEED_IS_FREE = "the first question is the seed: you have it, so nobody is asked for it."
_QUESTIONS_COST = "each question but the first is a request as well, not only the answers."


def requests(answer):
    """Exercise 1. `answer(turns)` → requests that open-header needs for a dialogue of that many turns."""
    problem, hint = "", ""
    for turns, right in ((1, 1), (2, 3), (5, 9)):
        got, problem = attempt(answer, turns)
        if not problem and got != right:
            problem = f"for {turns} turn(s) you say {got!r}."
        if problem:
            hint = {2 * turns: _SEED_IS_FREE, turns: _QUESTIONS_COST}.get(got, _WHO_SPEAKS)
            break
    hints = (
        hint,
        "the seed costs no request. Every other message costs one.",
        "turns answers, and turns - 1 questions.",
    )
    return report("requests", problem, hints)


_LAST_MARK = 'look for the last ".", "!" or "?" in the text; everything behind it goes.'
_MARK_STAYS = "the mark itself belongs to the sentence: cut behind it, not before it."
_ALL_MARKS = 'a sentence may also end with "!" or "?": look for all three marks.'
_NO_SENTENCE = "where no sentence is whole, nothing can be kept: return an empty text."
_NOT_FIRST = "keep all whole sentences: it is the last mark that counts, not the first."
_TRIMS = (  # (text, right, hint)
    ("Yes. Take a loaf and", "Yes.", _LAST_MARK),
    ("Stop. Wait. And th", "Stop. Wait.", _NOT_FIRST),
    ("Really? Why not! And th", "Really? Why not!", _ALL_MARKS),
    ("One whole sentence.", "One whole sentence.", "a text that ends with a mark is whole already: leave it."),
    ("no end in sight", "", _NO_SENTENCE),
)


def trim(answer):
    """Exercise 2. `answer(text)` → the text up to its last whole sentence, "" if there is none."""
    problem, hint = "", ""
    for text, right, fitting in _TRIMS:
        got, problem = attempt(answer, text)
        if not problem and got != right:
            problem = f"{text!r} became {got!r}, not {right!r}."
        if problem:
            hint = _MARK_STAYS if right and got == right[:-1] else fitting
            break
    hints = (
        hint,
        "text.rfind(mark) gives the last position of one mark, or -1. Take the largest of the three.",
        "end = max(text.rfind(mark) for mark in '.!?'); return text[: end + 1]",
    )
    return report("trim", problem, hints)


_WORDING = "They talk about {seed}. Their chat so far:\n{transcript}\n[Human]"
_TALK = [
    {"role": "user", "content": "Why is ice slippery?"},
    {"role": "assistant", "content": "A thin layer of it melts."},
    {"role": "user", "content": "Always?"},
    {"role": "assistant", "content": "Less so far below zero."},
]
_HISTORY = "a chat history is answered as an assistant would. Here the talk is told inside one user message instead."
_ONE_MESSAGE = 'a list with one message: [{"role": "user", "content": …}].'
_USER = 'the request itself comes from a user, whoever is played in it: "role": "user".'
_GAPS = 'fill both gaps: prompt.replace("{seed}", seed_text) is the first, "{transcript}" the second.'
_ALL_OF_IT = "the whole talk belongs into the prompt, each message on a line of its own; nothing left out."
_MARKERS = "[Human] stands before what the user said, [AI] before what the assistant said."


def human_request(answer):
    """Exercise 3. `answer(prompt, seed_text, messages)` → the messages of the request for the human's next question.

    One user message: the prompt with {seed} and {transcript} filled in, a line of the talk for each message.
    """
    problem, hint = "", ""
    for talk in (_TALK[:2], _TALK):
        got, problem = attempt(answer, _WORDING, "ice", [dict(message) for message in talk])
        if problem:
            hint = _ONE_MESSAGE
        else:
            problem, hint = _request_problem(got, talk)
        if problem:
            break
    hints = (
        hint,
        'names = {"user": "[Human]", "assistant": "[AI]"}; a line is f"{names[m[\'role\']]} {m[\'content\']}".',
        'talk = "\\n".join(of these lines); both gaps of prompt replaced, as content of one user message, in a list.',
    )
    return report("human_request", problem, hints)


def _request_problem(got, talk):
    """(problem, hint) of an answer of exercise 3, ("", "") where it is right."""
    lines = [f"{'[Human]' if m['role'] == 'user' else '[AI]'} {m['content']}" for m in talk]
    right = _WORDING.replace("{seed}", "ice").replace("{transcript}", "\n".join(lines))
    if got == [{"role": "user", "content": right}]:
        return "", ""
    if isinstance(got, list) and got[-len(talk) :] == talk:
        return "you send the talk as a chat history.", _HISTORY
    if (
        not isinstance(got, list)
        or len(got) != 1
        or not isinstance(got[0], dict)
        or not {"role", "content"} <= set(got[0])
    ):
        return f"a list of one message was expected, you returned {got!r}.", _ONE_MESSAGE
    if got[0]["role"] != "user":
        return f"your message has the role {got[0]['role']!r}.", _USER
    content = str(got[0]["content"])
    if "{seed}" in content or "{transcript}" in content or "about ice." not in content:
        return f"the prompt is not filled in: {content!r}", _GAPS
    if any(m["content"] not in content for m in talk):
        return f"something that was said is missing: {content!r}", _ALL_OF_IT
    hint = _MARKERS if any(line not in content for line in lines) else _ALL_OF_IT
    return f"you wrote {content!r}, and {right!r} would be right.", hint


_OPENS = "go through the lines: [Human] or [AI] at the start of one opens a message."
_GOES_ON = "a line without a marker goes on with the last message: add '\\n' and the line to its content."
_UNANSWERED = "at the end, drop the last message if it is a user message: it has no answer."
_NOBODYS = "what stands before the first marker belongs to nobody: leave it out."
_EMPTY = "an empty text has no messages: return an empty list."
_KEEP_LAST = "go on to the end: only a question without an answer is dropped, and the last exchange here is whole."
_ONE = "[Human] Why is ice slippery?\n[AI] A thin layer of it melts."
_TWO = f"{_ONE}\n[Human] Always?\n[AI] Less so far below zero."
_WRAPPED = "[Human] Why is ice slippery?\n[AI] A thin layer of it\nmelts."
_WRAPPED_TALK = [_TALK[0], {"role": "assistant", "content": "A thin layer of it\nmelts."}]
_PARSES = (  # (text, right, what it is, hint)
    (_TWO, _TALK, "two exchanges, a line each", _OPENS),
    (_ONE, _TALK[:2], "one exchange", _KEEP_LAST),
    (_WRAPPED, _WRAPPED_TALK, "one exchange, on three lines", _GOES_ON),
    (_TWO + "\n[Human] When", _TALK, "a last human turn without an answer", _UNANSWERED),
    ("Sure, here it is:\n" + _TWO, _TALK, "words before the first marker", _NOBODYS),
    ("", [], "an empty text", _EMPTY),
)


def parse(answer):
    """Exercise 4. `answer(text)` → messages of a transcript with [Human] and [AI] at the start of a line."""
    problem, hint = "", ""
    for text, right, what, fitting in _PARSES:
        got, problem = attempt(answer, text)
        if not problem and got != right:
            problem = f"not yet right for {what}. You returned {got!r}"
        if problem:
            hint = _KEEP_LAST if got and right and got == right[:-2] else fitting
            break
    hints = (
        hint,
        "keep a list of messages; at a marker append a new one with its role, else add to the content of the last one.",
        "after the loop: if messages and messages[-1]['role'] == 'user': messages.pop()",
    )
    return report("parse", problem, hints)
