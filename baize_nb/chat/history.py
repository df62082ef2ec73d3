"""What is remembered: the turns that fit into a prompt, and a whole conversation as a file.

Knows: messages, lengths, JSONL. Does not know: how a prompt is written, or who answers it.
"""

import json
from pathlib import Path

from .. import common
from ..common import CourseError

ENDS = ("stop", "marker", "limit", "stopped")


def window(messages, room, length):
    """The newest whole turns of `messages` that fit into `room` tokens. Built in notebook 05.

    messages : alternating, user first, a user message last.
    length   : function from such a list to the tokens of its prompt, preamble included; it is never cut.
    Raises CourseError where even the last message alone is too long: half a question would get an answer to another.
    """
    for start in range(0, len(messages), 2):
        if length(messages[start:]) <= room:
            return messages[start:]
    raise CourseError(
        f"The message is too long: its prompt has {length(messages[-1:])} tokens and there is room for {room} "
        "(context less max_new_tokens). Shorten the message, ask for fewer new tokens, or make the session with a "
        "larger context."
    )


def answered(messages):
    """Messages without the exchanges in which the model said nothing: training never showed it an empty turn."""
    pairs = zip(messages[::2], messages[1::2], strict=True)
    return [message for pair in pairs if pair[1]["content"] for message in pair]


def save(path, messages, settings):
    """Write a conversation to `path`, whole or not at all: a first line with the settings, then a message a line."""
    lines = [{"settings": settings}, *messages]
    common.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def load(path):
    """The messages in a file that `save` wrote, or in one written by hand (the first line may be missing).

    Raises CourseError, with file and line, for anything that is no conversation of whole exchanges.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise CourseError(f"Could not read {common.show(path)} ({error.strerror}). Check its name.") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{common.show(path)} is no UTF-8 text. Choose a file that `save` wrote.") from error
    messages = []
    for number, line in enumerate(lines, 1):
        if line.strip() and (message := _message(line, number, len(messages), common.show(path))):
            messages.append(message)
    if len(messages) % 2:
        raise CourseError(f"{common.show(path)} ends with a question without an answer. Remove its last line.")
    return messages


def _message(line, number, place, name):
    """The message of one line, None for the settings in line 1. place: how many messages stand before it."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise CourseError(f"{name}:{number} is no JSON ({error}). Mend or remove the line.") from error
    if number == 1 and isinstance(found, dict) and "settings" in found:
        return None
    role = ("user", "assistant")[place % 2]
    if not isinstance(found, dict) or found.get("role") != role or not isinstance(found.get("content"), str):
        raise CourseError(
            f'{name}:{number} should be {{"role": "{role}", "content": "…"}}: user and assistant take turns, the user '
            "first. Mend the line, or remove the whole exchange."
        )
    if (role == "user" and not found["content"].strip()) or found.get("end", "stop") not in ENDS:
        raise CourseError(f"{name}:{number} has an empty question or an unknown `end`. Mend or remove the exchange.")
    return {key: found[key] for key in ("role", "content", "end") if key in found}
