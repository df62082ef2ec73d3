"""Checks of notebook 05: temperature, the history window, the filter that never shows half a marker."""

import math

from . import attempt, report

MARKERS = ("[|Human|]", "[|AI|]")


def temperature(function):
    """`probabilities(logits, temperature)`: a list of floats → a list of probabilities."""
    name, logits = "temperature", [2.0, 1.0, 0.0, -1.0]
    hints = (
        "a softmax is exp(x) for every x, divided by the sum of them all",
        "a small temperature makes the differences between the logits larger, so it stands below the line",
        "scaled = [x / temperature for x in logits]; then the softmax of `scaled`",
    )
    results = {}
    for value in (1.0, 0.5, 2.0):
        result, problem = attempt(function, list(logits), value)
        if not problem and result is None:
            problem = "it returns None so far: the place where you write is still empty"
        if not problem:
            results[value], problem = attempt(lambda numbers=result: [float(x) for x in numbers])
        if problem:
            return report(name, problem, hints)
    return report(name, _temperature_problem(results, logits), hints)


def _temperature_problem(results, logits):
    """What is wrong with the probabilities at temperatures 1, 0.5 and 2; "" if nothing is."""
    for value, result in results.items():
        if len(result) != len(logits) or not math.isclose(sum(result), 1, abs_tol=1e-4):
            return f"at temperature {value} the result is no list of {len(logits)} probabilities that sum to 1"
    if not _close(results[1.0], _softmax(logits, 1.0)):
        return "at temperature 1 it should be the plain softmax"
    if results[0.5][0] <= results[1.0][0]:
        return "at temperature 0.5 the likeliest token should become likelier still, and it does not"
    wrong = [value for value, result in results.items() if not _close(result, _softmax(logits, value))]
    return f"at temperature {wrong[0]} the probabilities are not the right ones" if wrong else ""


def _softmax(logits, temperature):
    """The right answer of the first exercise."""
    powers = [math.exp(x / temperature) for x in logits]
    return [p / sum(powers) for p in powers]


def _close(first, second):
    """Whether two lists of numbers are the same up to rounding."""
    return all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(first, second, strict=True))


def history(function):
    """`keep(messages, room, length)`: the newest whole turns that fit, the last message always."""
    name = "history window"
    hints = (
        "a turn is a question and its answer: messages go two at a time, from the front",
        "look at messages[0:], messages[2:], messages[4:] … and take the first that fits",
        "while length(messages) > room and len(messages) > 1: messages = messages[2:]",
    )
    talk = [
        {"role": ("user", "assistant")[i % 2], "content": "x" * size} for i, size in enumerate((5, 5, 2, 9, 3, 3, 4))
    ]
    for room in (40, 31, 30, 21, 20, 10, 4, 1):
        result, problem = attempt(function, list(talk), room, _length)
        if not problem:
            problem = _history_problem(result, talk, room)
        if problem:
            return report(name, problem, hints)
    return report(name, "")


def _length(messages):
    """The length that the check of the second exercise hands over: letters instead of tokens."""
    return sum(len(m["content"]) for m in messages)


def _history_problem(result, talk, room):
    """What is wrong with the window of `room` letters; "" if nothing is."""
    if result is None:
        return "it returns None so far: the place where you write is still empty"
    if not isinstance(result, list) or any(message not in talk for message in result):
        return f"it should return a list of the messages it was given; it returned {result!r}"
    if not result or result[-1] != talk[-1]:
        return f"with room {room} the newest question is gone: it must always stay"
    if result[0]["role"] != "user":
        return f"with room {room} the window starts with an answer whose question was cut away"
    right = next((talk[i:] for i in range(0, len(talk), 2) if _length(talk[i:]) <= room), talk[-1:])
    if result == right:
        return ""
    size = _length(result)
    if size > room and len(result) > 1:
        return f"with room {room} the window has {size}: it does not fit"
    return f"with room {room} it keeps {len(result)} messages, and {len(right)} would be right"


def marker_filter(function):
    """`release(text, markers)`: (what can be shown, what must wait); (shown, None) once a marker is complete."""
    name = "marker filter"
    hints = (
        "first look for a whole marker: what stands before it can be shown, and nothing else comes (None)",
        "then look for the longest end of the text with which a marker starts: `marker.startswith(text[i:])`",
        "for i in range(len(text)): if any(m.startswith(text[i:]) for m in markers): return text[:i], text[i:]",
    )
    cases = ("Take two [|AI|] pills", "a [list] of [|things|]", "Yes.[|Human|] And", "x = [1, [2", "no marker here")
    for text in cases:
        for step in (1, 2, 3, len(text)):
            if problem := _stream_problem(function, text, step):
                return report(name, problem, hints)
    return report(name, "")


def _stream_problem(function, text, step):
    """Feed `text` in pieces of `step` letters; say what went wrong, "" if nothing did."""
    right = text[: min((text.find(m) for m in MARKERS if m in text), default=len(text))]
    shown, held = "", ""
    for start in range(0, len(text), step):
        result, problem = attempt(function, held + text[start : start + step], MARKERS)
        if problem or result is None:
            return problem or "it returns None so far: the place where you write is still empty"
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], str):
            return f"it should return two things, what to show and what to hold; it returned {result!r}"
        show, held = result
        if not isinstance(held, str | None):
            return f"what to hold should be text or None; it is {held!r}"
        shown += show
        if not right.startswith(shown):
            return f"of {text!r}, {step} letters at a time, it showed {shown!r}"
        if held is None:
            break
    if held is None and right == text:
        return f"it found a marker in {text!r}, where there is none"
    if held is not None and (right != text or shown + held != text):
        return f"of {text!r}, {step} letters at a time, it showed {shown!r} and holds {held!r}"
    if held and not any(m.startswith(held) for m in MARKERS):
        return f"at the end of {text!r} it holds {held!r} back, which starts no marker"
    return (
        "" if held is not None or shown == right else f"of {text!r} it showed {shown!r}, and {right!r} would be right"
    )
