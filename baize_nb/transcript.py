"""Text with role markers ◄► messages: the one place that knows how a Baize dialogue is written.

Knows: the markers, the training text, the chat prompt, the parser for a teacher's transcript.
Does not know: tokens, models, files. Built in notebooks 02 (parser) and 04 (training text).
Source: Baize (arXiv 2304.01196), section 3 and its released v1 format; wording of the preamble is ours.
"""

import re
from typing import NamedTuple

HUMAN = "[|Human|]"
AI = "[|AI|]"
MARKERS = {"user": HUMAN, "assistant": AI}

PREAMBLE = (
    "A conversation between a human and an AI assistant. The assistant gives helpful, detailed answers "
    "and declines requests that are unethical, controversial or sensitive.\n"
)


def render(messages, eos=""):
    """Baize training text of a dialogue.

    messages : [{"role": "user"|"assistant", "content": str}], roles alternating, user first.
    eos      : the tokenizer's end-of-sequence token, written after every assistant message. It is the stop
               mark that the model learns. (The released Baize code never looked for it at chat time.)
    """
    return "".join(text for text, _ in pieces(messages, eos))


def pieces(messages, eos=""):
    """The same text cut in pieces: [(text, learn)], where `learn` marks what the assistant has to say itself.

    Only an assistant's words and its stop mark are learned: never the preamble, a marker or a human turn.
    """
    check(messages)
    parts = [(PREAMBLE, False)]
    for message in messages:
        parts.append((MARKERS[message["role"]], False))
        learned = message["role"] == "assistant"
        parts.append((" " + message["content"] + (eos if learned else ""), learned))
        parts.append(("\n", False))
    return parts


def prompt(messages, eos=""):
    """What the model is given to write the next assistant message: the training text up to its first word.

    messages must end with a user message.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a chat prompt must end with a user message")
    return render(messages, eos) + AI


def check(messages):
    """Raise ValueError unless roles alternate, user first, and every message has text."""
    for i, message in enumerate(messages):
        expected = ("user", "assistant")[i % 2]
        if message.get("role") != expected:
            raise ValueError(f"message {i} has role {message.get('role')!r}, expected {expected!r}")
        if not str(message.get("content", "")).strip():
            raise ValueError(f"message {i} ({expected}) is empty")


class Parsed(NamedTuple):
    """What `parse` found. messages: whole exchanges; kept: their number; reason: "" or what was cut, and why."""

    messages: list
    kept: int
    reason: str


# [Human] and [|Human|], [AI] and [|AI|], at the start of a line, in any case.
_MARKER = re.compile(r"^[ \t]*\[\|?(human|ai)\|?\][ \t]*:?", re.IGNORECASE | re.MULTILINE)


def parse(text):
    """Messages of a transcript that a teacher wrote. Never raises, never invents text.

    Every whole exchange (a human and an assistant turn) before the first fault is kept, the last one included.
    text before the first marker is dropped; an exchange without both turns ends the dialogue.
    """
    marks = list(_MARKER.finditer(text))
    if not marks:
        return Parsed([], 0, "no role markers")
    ends = [m.start() for m in marks[1:]] + [len(text)]
    turns = [
        ({"human": "user", "ai": "assistant"}[m.group(1).lower()], text[m.end() : end].strip())
        for m, end in zip(marks, ends, strict=True)
    ]
    messages, reason = [], ""
    for i, (role, content) in enumerate(turns):
        expected = ("user", "assistant")[len(messages) % 2]
        if role != expected:
            reason = f"turn {i}: expected {expected}, found {role}"
            break
        if not content:
            reason = f"turn {i} ({role}) is empty" if i < len(turns) - 1 else ""
            break
        messages.append({"role": role, "content": content})
    if len(messages) % 2:
        reason = reason or "the last human turn has no answer"
        messages.pop()
    return Parsed(messages, len(messages) // 2, reason)
