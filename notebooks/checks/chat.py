"""Checks of notebook 05: temperature, the history window, the filter that never shows half a marker."""

import math

from . import Wrong, call, exercise, expect, refuse

MARKERS = ("[|Human|]", "[|AI|]")
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

    def floats(*given):
        found = answer(*given)
        return found if found is None else [float(x) for x in found]

    logits, large = [2.0, 1.0, 0.0, -1.0], [1000.0, 999.0, -1000.0]
    cases = [(logits, value, SOFTMAX if value == 1 else BEFORE) for value in (1.0, 0.5, 2.0)]
    for given, value, hint in [*cases, (large, 1.0, TOO_LARGE), (large, 0.5, TOO_LARGE)]:
        result = call(floats, given, value, hint=SOFTMAX if given is logits else TOO_LARGE)
        right, inverted = _softmax(given, value), _softmax(given, 1 / value)
        if result is None or len(result) != len(given):
            hint = SOFTMAX
        elif _close(result, right):
            continue
        elif value != 1 and _close(result, inverted):
            hint = DIVIDE
        expect(result, right, f"logits {given} and temperature {value}", hint)


def _softmax(logits, temperature):
    powers = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [p / sum(powers) for p in powers]


def _close(first, second):
    return all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(first, second, strict=True))


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
        result = call(answer, talk, room, length, hint=WHOLE_TURNS)
        right = next((talk[i:] for i in range(0, len(talk), 2) if length(talk[i:]) <= room), talk[-1:])
        if not isinstance(result, list):
            expect(result, right, f"room {room}", A_LIST)
        refuse(
            f"with room {room} it keeps {len(result)} messages, and {len(right)} would be right.",
            (any(message not in talk for message in result), A_LIST),
            (result[-1:] != talk[-1:], LAST_STAYS),
            (result[:1] and result[0] not in talk[::2], WHOLE_TURNS),
            (result != right, TOO_MUCH if len(result) > len(right) else TOO_LITTLE),
        )


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
    right, shown, held = text[:end], "", ""
    for start in range(0, len(text), step):
        arrived = held + text[start : start + step]
        result = call(answer, arrived, MARKERS, hint=PAIR)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], str)):
            raise Wrong(f"it should return two things, what to show and what to hold; it returned {result!r}", PAIR)
        show, held = result
        shown, whole = shown + show, any(m in arrived for m in MARKERS)
        refuse(
            f"of {text!r}, {step} letters at a time, it made {show!r} and {held!r} of {arrived!r}",
            (not right.startswith(shown), COMPLETE if whole else HALF),
            (held is not None and show + (held or "") != arrived, NOTHING_LOST),
            (held and not any(m.startswith(held) for m in MARKERS), COMPLETE if whole else LET_GO),
            (held is None and not whole, COMPLETE),
            (held is None and shown != right, NOTHING_LOST),
        )
        if held is None:
            return
    if right != text:
        raise Wrong(f"the marker in {text!r} was not found", COMPLETE)
