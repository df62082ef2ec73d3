"""Solutions of notebook 05: one function per exercise."""

import math


def probabilities(logits, temperature):
    """Exercise 1: softmax with a temperature. The largest power is exp(0), so that none is too large for a float."""
    powers = [math.exp((x - max(logits)) / temperature) for x in logits]
    total = sum(powers)
    return [power / total for power in powers]


def keep(messages, room, length):
    """Exercise 2: the newest whole turns that fit into `room`; the last message always stays."""
    while length(messages) > room and len(messages) > 1:
        messages = messages[2:]
    return messages


def release(text, markers):
    """Exercise 3: (what can be shown, what must wait); (what can be shown, None) once a marker is complete."""
    places = [text.find(marker) for marker in markers if marker in text]
    if places:
        return text[: min(places)], None
    for i in range(len(text)):
        if any(marker.startswith(text[i:]) for marker in markers):
            return text[:i], text[i:]
    return text, ""
