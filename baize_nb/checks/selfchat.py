"""Checks of notebook 02: count the requests, cut a reply, parse a transcript."""

from . import attempt, report


def requests(answer):
    """Exercise 1. `answer(turns)` → requests that open-header needs for a dialogue of that many turns."""
    hints = (
        "Write down who speaks in a dialogue of two turns: question (the seed), answer, question, answer.",
        "The seed costs no request. Every other message costs one.",
        "turns answers, and turns - 1 questions.",
    )
    for turns, right in ((1, 1), (2, 3), (5, 9)):
        got, problem = attempt(answer, turns)
        if not problem and got != right:
            problem = f"for {turns} turn(s) you say {got!r}."
            if got == 2 * turns:
                problem += " Do you ask the model for the seed as well?"
        if problem:
            return report("requests", problem, hints)
    return report("requests", "")


def trim(answer):
    """Exercise 2. `answer(text)` → the text up to its last whole sentence, "" if there is none."""
    hints = (
        'Look for the last ".", "!" or "?" in the text.',
        "text.rfind(mark) gives the last position of one mark, or -1. Take the largest of the three.",
        "end = max(text.rfind(mark) for mark in '.!?'); return text[: end + 1]",
    )
    cases = (
        ("Yes. Take a loaf and", "Yes."),
        ("Really? Why not! And th", "Really? Why not!"),
        ("One whole sentence.", "One whole sentence."),
        ("no end in sight", ""),
    )
    for text, right in cases:
        got, problem = attempt(answer, text)
        if not problem and got != right:
            problem = f"{text!r} became {got!r}, not {right!r}."
            if isinstance(got, str) and got + text[len(got) : len(got) + 1] == right:
                problem += " The mark itself belongs to the sentence."
        if problem:
            return report("trim", problem, hints)
    return report("trim", "")


def parse(answer):
    """Exercise 3. `answer(text)` → messages of a transcript with [Human] and [AI] at the start of a line."""
    hints = (
        "Go through the lines. [Human] or [AI] at the start of one opens a message; any other line goes on with it.",
        "Keep a list of messages; open a new one with its role, else add '\\n' + line to the content of the last one.",
        "At the end, drop the last message if it is a user message: it has no answer.",
    )
    two = "[Human] Why is ice slippery?\n[AI] A thin layer of it\nmelts.\n[Human] Always?\n[AI] No."
    exchange = [
        {"role": "user", "content": "Why is ice slippery?"},
        {"role": "assistant", "content": "A thin layer of it\nmelts."},
    ]
    more = [{"role": "user", "content": "Always?"}, {"role": "assistant", "content": "No."}]
    cases = (
        ("[Human] Why is ice slippery?\n[AI] A thin layer of it\nmelts.", exchange, "one exchange, on three lines"),
        (two, exchange + more, "two exchanges: is the last one kept?"),
        (two + "\n[Human] When", exchange + more, "a last human turn without an answer"),
        ("Sure, here it is:\n" + two, exchange + more, "words before the first marker belong to nobody"),
        ("", [], "an empty text"),
    )
    for text, right, what in cases:
        got, problem = attempt(answer, text)
        if not problem and got != right:
            problem = f"not yet right for {what}. You returned {got!r}"
        if problem:
            return report("parse", problem, hints)
    return report("parse", "")
