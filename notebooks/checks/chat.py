"""Checks of notebook 05: temperature, the history window, the filter that never shows half a marker.

Knows: what a right answer does, and which mistake a wrong one points to. Does not know: how the student wrote it.
The first hint fits the mistake; the others say more about the way.
"""

import math

from . import attempt, report

MARKERS = ("[|Human|]", "[|AI|]")
_EMPTY = "it returns None so far: the place where you write is still empty"
_SOFTMAX = "a softmax is exp(x) for every x, divided by the sum of them all"
_DIVIDE = "a small temperature makes the differences between the logits larger, so it stands below the line"
_BEFORE = "divide each logit by the temperature before exp, not the powers or the probabilities after it"


def temperature(function):
    """`probabilities(logits, temperature)`: a list of floats → a list of probabilities."""
    name, logits = "temperature", [2.0, 1.0, 0.0, -1.0]
    more = (
        "scaled = [x / temperature for x in logits]; then the softmax of `scaled`",
        "powers = [math.exp(x / temperature) for x in logits]; return [power / sum(powers) for power in powers]",
    )
    results = {}
    for value in (1.0, 0.5, 2.0):
        result, problem = attempt(function, list(logits), value)
        if not problem and result is None:
            problem = _EMPTY
        if not problem:
            results[value], problem = attempt(lambda numbers=result: [float(x) for x in numbers])
        if problem:
            return report(name, problem, (_SOFTMAX, *more))
    problem, hint = _temperature_problem(results, logits)
    return report(name, problem, (hint, *more))


def _temperature_problem(results, logits):
    """(problem, hint) of the probabilities at temperatures 1, 0.5 and 2; ("", "") if nothing is wrong."""
    for value, result in results.items():
        if len(result) != len(logits) or not math.isclose(sum(result), 1, abs_tol=1e-4):
            problem = f"at temperature {value} the result is no list of {len(logits)} probabilities that sum to 1"
            plain = _close(results[1.0], _softmax(logits, 1.0)) if len(results[1.0]) == len(logits) else False
            return problem, _BEFORE if plain else _SOFTMAX
    if not _close(results[1.0], _softmax(logits, 1.0)):
        return "at temperature 1 it should be the plain softmax", _SOFTMAX
    if results[0.5][0] <= results[1.0][0]:
        return "at temperature 0.5 the likeliest token should become likelier still, and it does not", _DIVIDE
    wrong = [value for value, result in results.items() if not _close(result, _softmax(logits, value))]
    return (f"at temperature {wrong[0]} the probabilities are not the right ones", _BEFORE) if wrong else ("", "")


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
    more = (
        "look at messages[0:], messages[2:], messages[4:] … and take the first that fits",
        "while length(messages) > room and len(messages) > 1: messages = messages[2:]",
    )
    talk = [
        {"role": ("user", "assistant")[i % 2], "content": "x" * size} for i, size in enumerate((5, 5, 2, 9, 3, 3, 4))
    ]
    for room in (40, 31, 30, 21, 20, 10, 4, 1):
        result, problem = attempt(function, list(talk), room, _length)
        hint = _WHOLE_TURNS
        if not problem:
            problem, hint = _history_problem(result, talk, room)
        if problem:
            return report(name, problem, (hint, *more))
    return report(name, "")


_A_LIST = "return a list, a part of `messages`: messages[2:] leaves out the first turn"
_WHOLE_TURNS = "a turn is a question and its answer: messages go two at a time, from the front"
_LAST_STAYS = "stop before the list is empty: the last message stays, even where it does not fit"
_TOO_MUCH = "one turn may not be enough: go on leaving out turns for as long as it does not fit"
_TOO_LITTLE = "leave out only what you must: what is exactly as long as `room` still fits"


def _length(messages):
    """The length that the check of the second exercise hands over: letters instead of tokens."""
    return sum(len(m["content"]) for m in messages)


def _history_problem(result, talk, room):
    """(problem, hint) of the window of `room` letters; ("", "") if nothing is wrong."""
    if result is None:
        return _EMPTY, _WHOLE_TURNS
    if not isinstance(result, list) or any(message not in talk for message in result):
        return f"it should return a list of the messages it was given; it returned {result!r}", _A_LIST
    if not result or result[-1] != talk[-1]:
        return f"with room {room} the newest question is gone: it must always stay", _LAST_STAYS
    if result[0]["role"] != "user":
        return f"with room {room} the window starts with an answer whose question was cut away", _WHOLE_TURNS
    right = next((talk[i:] for i in range(0, len(talk), 2) if _length(talk[i:]) <= room), talk[-1:])
    if result == right:
        return "", ""
    size = _length(result)
    if size > room and len(result) > 1:
        return f"with room {room} the window has {size}: it does not fit", _TOO_MUCH
    return f"with room {room} it keeps {len(result)} messages, and {len(right)} would be right", _TOO_LITTLE


def marker_filter(function):
    """`release(text, markers)`: (what can be shown, what must wait); (shown, None) once a marker is complete."""
    name = "marker filter"
    more = (
        "first the whole marker, then the longest end of the text with which one starts: `marker.startswith(text[i:])`",
        "for i in range(len(text)): if any(m.startswith(text[i:]) for m in markers): return text[:i], text[i:]",
    )
    cases = ("Take two [|AI|] pills", "a [list] of [|things|]", "Yes.[|Human|] And", "x = [1, [2", "no marker here")
    cases += ("a [|Human|] b [|AI|] c",)
    for text in cases:
        for step in (1, 2, 3, len(text)):
            problem, hint = _stream_problem(function, text, step)
            if problem:
                return report(name, problem, (hint, *more))
    return report(name, "")


_PAIR = "return two things: what can be shown now, and what must wait until more has arrived"
_HALF = "the end of a text may be the start of a marker: hold it back, and show what stands before it"
_COMPLETE = "look for a whole marker first: what stands before it can be shown, and nothing else comes (None)"
_LET_GO = "hold back only what a marker starts with; everything else can be shown at once"
_NOTHING_LOST = "what is neither shown nor held is lost: the two together are the text that came in"


def _stream_problem(function, text, step):
    """Feed `text` in pieces of `step` letters: (problem, hint), ("", "") if nothing went wrong."""
    end = min((text.find(m) for m in MARKERS if m in text), default=len(text))
    right, fed = text[:end], f"of {text!r}, {step} letters at a time,"
    shown, held = "", ""
    for start in range(0, len(text), step):
        arrived = held + text[start : start + step]
        result, problem = attempt(function, arrived, MARKERS)
        if problem or result is None:
            return problem or _EMPTY, _PAIR
        problem = _pair_problem(result)
        if problem:
            return problem, _PAIR
        show, held = result
        shown += show
        if not right.startswith(shown):
            return f"{fed} it showed {shown!r}", _COMPLETE if any(m in arrived for m in MARKERS) else _HALF
        if held is None:
            break
        if show + held != arrived:
            return f"{fed} it made {show!r} and {held!r} of {arrived!r}", _NOTHING_LOST
        if held and not any(m.startswith(held) for m in MARKERS):
            return f"{fed} it holds {held!r} back", _COMPLETE if any(m in held for m in MARKERS) else _LET_GO
    return _end_problem(text, right, shown, held)


def _pair_problem(result):
    """What keeps the result of the third exercise from being (text, text or None); "" if nothing does."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], str):
        return f"it should return two things, what to show and what to hold; it returned {result!r}"
    if not isinstance(result[1], str | None):
        return f"what to hold should be text or None; it is {result[1]!r}"
    return ""


def _end_problem(text, right, shown, held):
    """(problem, hint) of what was shown and is held when all has arrived; ("", "") if nothing is wrong."""
    if held is None and right == text:
        return f"it found a marker in {text!r}, where there is none", _COMPLETE
    if held is None and shown != right:
        return f"of {text!r} it showed {shown!r}, and {right!r} would be right", _NOTHING_LOST
    if held is not None and right != text:
        return f"the marker in {text!r} was not found", _COMPLETE
    return "", ""
