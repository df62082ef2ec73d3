"""Checks of notebook 05: temperature, the history window, the filter that never shows half a marker."""

import math

from . import Wrong, call, exercise

MARKERS = ("[|Human|]", "[|AI|]")
EMPTY = "it returns None so far: the place where you write is still empty"
SOFTMAX = "a softmax is exp(x) for every x, divided by the sum of them all"
DIVIDE = "a small temperature makes the differences between the logits larger, so it stands below the line"
BEFORE = "divide each logit by the temperature before exp, not the powers or the probabilities after it"
TOO_LARGE = (
    "exp(1000) is more than a float can hold: subtract the largest logit from all of them first; nothing changes"
)


@exercise(
    "scaled = [(x - max(logits)) / temperature for x in logits]; then the softmax of `scaled`",
    "powers = [math.exp(x) for x in scaled]; return [power / sum(powers) for power in powers]",
)
def temperature(answer):
    """Exercise 1. `answer(logits, temperature)`: a list of floats → a list of probabilities."""
    logits = [2.0, 1.0, 0.0, -1.0]
    results = {value: _probabilities(answer, logits, value, SOFTMAX) for value in (1.0, 0.5, 2.0)}
    for value, result in results.items():
        if len(result) != len(logits) or not math.isclose(sum(result), 1, abs_tol=1e-4):
            problem = f"at temperature {value} the result is no list of {len(logits)} probabilities that sum to 1"
            raise Wrong(problem, BEFORE if _close(results[1.0], _softmax(logits, 1.0)) else SOFTMAX)
    if not _close(results[1.0], _softmax(logits, 1.0)):
        raise Wrong("at temperature 1 it should be the plain softmax", SOFTMAX)
    if results[0.5][0] <= results[1.0][0]:
        raise Wrong("at temperature 0.5 the likeliest token should become likelier still, and it does not", DIVIDE)
    for value, result in results.items():
        if not _close(result, _softmax(logits, value)):
            raise Wrong(f"at temperature {value} the probabilities are not the right ones", BEFORE)
    large = [1000.0, 999.0, -1000.0]
    for value in (1.0, 0.5):
        result = _probabilities(answer, large, value, TOO_LARGE)
        if not _close(result, _softmax(large, value)):
            raise Wrong(f"for the logits {large} it gives {result}", TOO_LARGE)


def _probabilities(answer, logits, value, hint):
    """What the answer gives, as a list of floats."""
    result = call(answer, list(logits), value, hint=hint)
    if result is None:
        raise Wrong(EMPTY, hint)
    return call(lambda: [float(x) for x in result], hint=hint)


def _softmax(logits, temperature):
    powers = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [p / sum(powers) for p in powers]


def _close(first, second):
    """Whether two lists of numbers are the same up to rounding."""
    return len(first) == len(second) and all(
        math.isclose(a, b, abs_tol=1e-4) for a, b in zip(first, second, strict=True)
    )


A_LIST = "return a list, a part of `messages`: messages[2:] leaves out the first turn"
WHOLE_TURNS = "a turn is a question and its answer: messages go two at a time, from the front"
LAST_STAYS = "stop before the list is empty: the last message stays, even where it does not fit"
TOO_MUCH = "one turn may not be enough: go on leaving out turns for as long as it does not fit"
TOO_LITTLE = "leave out only what you must: what is exactly as long as `room` still fits"


@exercise(
    "look at messages[0:], messages[2:], messages[4:] … and take the first that fits",
    "while length(messages) > room and len(messages) > 1: messages = messages[2:]",
)
def history(answer):
    """Exercise 2. `answer(messages, room, length)`: the newest whole turns that fit, the last message always."""
    sizes = (5, 5, 2, 9, 3, 3, 4)
    talk = [{"role": ("user", "assistant")[i % 2], "content": "x" * size} for i, size in enumerate(sizes)]

    def length(messages):  # letters instead of tokens
        return sum(len(m["content"]) for m in messages)

    for room in (40, 31, 30, 21, 20, 10, 4, 1):
        result = call(answer, list(talk), room, length, hint=WHOLE_TURNS)
        if result is None:
            raise Wrong(EMPTY, WHOLE_TURNS)
        if not isinstance(result, list) or any(message not in talk for message in result):
            raise Wrong(f"it should return a list of the messages it was given; it returned {result!r}", A_LIST)
        if not result or result[-1] != talk[-1]:
            raise Wrong(f"with room {room} the newest question is gone: it must always stay", LAST_STAYS)
        if result[0]["role"] != "user":
            raise Wrong(f"with room {room} the window starts with an answer whose question was cut away", WHOLE_TURNS)
        right = next((talk[i:] for i in range(0, len(talk), 2) if length(talk[i:]) <= room), talk[-1:])
        if length(result) > room and len(result) > 1:
            raise Wrong(f"with room {room} the window has {length(result)}: it does not fit", TOO_MUCH)
        if result != right:
            problem = f"with room {room} it keeps {len(result)} messages, and {len(right)} would be right"
            raise Wrong(problem, TOO_LITTLE)


PAIR = "return two things: what can be shown now, and what must wait until more has arrived"
HALF = "the end of a text may be the start of a marker: hold it back, and show what stands before it"
COMPLETE = "look for a whole marker first: what stands before it can be shown, and nothing else comes (None)"
LET_GO = "hold back only what a marker starts with; everything else can be shown at once"
NOTHING_LOST = "what is neither shown nor held is lost: the two together are the text that came in"


@exercise(
    "first the whole marker, then the longest end of the text with which one starts: `marker.startswith(text[i:])`",
    "for i in range(len(text)): if any(m.startswith(text[i:]) for m in markers): return text[:i], text[i:]",
)
def marker_filter(answer):
    """Exercise 3. `answer(text, markers)`: (what can be shown, what must wait); (shown, None) at a whole marker."""
    cases = ("Take two [|AI|] pills", "a [list] of [|things|]", "Yes.[|Human|] And", "x = [1, [2", "no marker here")
    for text in (*cases, "a [|Human|] b [|AI|] c"):
        for step in (1, 2, 3, len(text)):
            _stream(answer, text, step)


def _stream(answer, text, step):
    """Feed `text` in pieces of `step` letters; raise Wrong where what is shown and held is not right."""
    end = min((text.find(m) for m in MARKERS if m in text), default=len(text))
    right, fed = text[:end], f"of {text!r}, {step} letters at a time,"
    shown, held = "", ""
    for start in range(0, len(text), step):
        arrived = held + text[start : start + step]
        result = call(answer, arrived, MARKERS, hint=PAIR)
        if result is None:
            raise Wrong(EMPTY, PAIR)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], str):
            raise Wrong(f"it should return two things, what to show and what to hold; it returned {result!r}", PAIR)
        show, held = result
        if not isinstance(held, str | None):
            raise Wrong(f"what to hold should be text or None; it is {held!r}", PAIR)
        shown += show
        if not right.startswith(shown):
            raise Wrong(f"{fed} it showed {shown!r}", COMPLETE if any(m in arrived for m in MARKERS) else HALF)
        if held is None:
            break
        if show + held != arrived:
            raise Wrong(f"{fed} it made {show!r} and {held!r} of {arrived!r}", NOTHING_LOST)
        if held and not any(m.startswith(held) for m in MARKERS):
            raise Wrong(f"{fed} it holds {held!r} back", COMPLETE if any(m in held for m in MARKERS) else LET_GO)
    if held is None and right == text:
        raise Wrong(f"it found a marker in {text!r}, where there is none", COMPLETE)
    if held is None and shown != right:
        raise Wrong(f"of {text!r} it showed {shown!r}, and {right!r} would be right", NOTHING_LOST)
    if held is not None and right != text:
        raise Wrong(f"the marker in {text!r} was not found", COMPLETE)
