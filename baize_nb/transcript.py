"""Text with role markers ◄► messages: the one place that knows how a Baize dialogue is written.

Knows: the markers, the training text, the chat prompt, and how text from elsewhere is kept from opening a role.
Does not know: tokens, models, files, or what models make of the format (parser.py). Built in notebooks 02 and 04.
Source: Baize (arXiv 2304.01196), section 3 and its released v1 format; wording of the preamble is ours.
"""

import re

from . import parser
from .parser import Parsed

HUMAN = "[|Human|]"
AI = "[|AI|]"
MARKERS = {"user": HUMAN, "assistant": AI}

PREAMBLE = (
    "A conversation between a human and an AI assistant. The assistant gives helpful, detailed answers "
    "and declines requests that are unethical, controversial or sensitive.\n"
)


def render(messages, eos="", preamble=PREAMBLE):
    """Baize training text of a dialogue.

    messages : [{"role": "user"|"assistant", "content": str}], roles alternating, user first.
    eos      : the tokenizer's end-of-sequence token, written after every assistant message. It is the stop
               mark that the model learns. (The released Baize code never looked for it at chat time.)
    preamble : the text before the first turn. Training has always the same; a chat may try another, or "".
    """
    return "".join(text for text, _ in pieces(messages, eos, preamble))


def pieces(messages, eos="", preamble=PREAMBLE):
    """The same text cut in pieces: [(text, learn)], where `learn` marks what the assistant has to say itself.

    Only an assistant's words and its stop mark are learned: never the preamble, a marker or a human turn.
    A marker inside a message is written `[\\|AI|]`, so that it opens no turn.
    """
    check(messages)
    parts = [(preamble, False)]
    for message in messages:
        parts.append((MARKERS[message["role"]], False))
        learned = message["role"] == "assistant"
        parts.append((" " + _escape(message["content"]) + (eos if learned else ""), learned))
        parts.append(("\n", False))
    return parts


def prompt(messages, eos="", preamble=PREAMBLE):
    """What the model is given to write the next assistant message: the training text up to its first word.

    messages must end with a user message. preamble: as in `render`.
    """
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a chat prompt must end with a user message")
    return render(messages, eos, preamble) + AI


def check(messages):
    """Raise ValueError unless roles alternate, user first, and every message has text."""
    for i, message in enumerate(messages):
        expected = ("user", "assistant")[i % 2]
        if message.get("role") != expected:
            raise ValueError(f"message {i} has role {message.get('role')!r}, expected {expected!r}")
        if not str(message.get("content", "")).strip():
            raise ValueError(f"message {i} ({expected}) is empty")


def parse(text):
    """`Parsed` of a transcript: its whole exchanges, and what was left out and why. Built in notebook 02.

    Never raises and never invents text: every message stands in `text`, line ends made "\\n". Kept is every exchange
    of a human turn and the answer next to it, the last one included. Left out, each with its reason in `cut`:
    words before and after the transcript ("Sure, here is …", "[End]"), a greeting at its start, empty turns, and turns
    without a partner: of two human turns in a row the first, of two answers in a row the second. Words before a first
    [AI] are the human's, whose marker was forgotten. A marker inside a code block is none.

    Text of our own (`render`) is taken apart exactly as it was put together, so parse(render(x)).messages == x.
    """
    if not text.startswith(PREAMBLE + HUMAN):
        return parser.read(text)
    turns = parser.turns_of(text, list(_OWN_MARKER.finditer(text)))
    return parser.exchanges([turn._replace(content=_unescape(turn.content)) for turn in turns])


_OWN_MARKER = re.compile(r"^\[\|(?P<name>Human|AI)\|\]", re.MULTILINE)


def _escape(text):
    """`[|AI|]` → `[\\|AI|]`: what somebody said about the format can't be taken for the format."""
    return re.sub(r"\[(\\*)\|(Human|AI)\|\]", r"[\\\1|\2|]", text)


def _unescape(text):
    return re.sub(r"\[\\(\\*)\|(Human|AI)\|\]", r"[\1|\2|]", text)


# Line ends that are none to a parser, but that a model may read as one.
_LINE_END = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
# Control characters, surrogates that no file can hold, and what can't be seen: bidirectional controls, zero-width
# characters, the tag characters in which whole hidden messages have been written.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_SPECIAL = re.compile(
    r"[<＜](?=[|｜][^\s<>＜＞|｜]*[|｜][>＞])"  # <|im_start|> <|eot_id|> <｜User｜> …
    r"|<(?=/?(?:s|bos|eos|pad|unk|(?:start|end)_of_turn|think|tool_calls?|tool_response)>|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK)\])"
)


def neutral(text, markers=True):
    """`text` from somewhere else, safe to put into a prompt: it can't open a role there. neutral is idempotent.

    A space goes into each role marker that begins a line (`[ Human]`, `User :`) and into the special tokens of chat
    formats (`< |im_start|>`, `< s>`, `[ INST]`). Line ends become "\\n"; control, bidirectional and zero-width
    characters go, but for U+200C and U+200D: Persian spelling and joined emoji need them. Nothing else is touched.
    This stops tricks with the format. It does not stop plain words ("ignore the above"): no filter does.

    markers : False leaves role markers alone, for a whole prompt, whose markers are its own.
    """
    text = _UNSEEN.sub("", _LINE_END.sub("\n", text))
    if markers:
        text = parser.BRACKETED.sub(lambda m: re.sub(r"[\[【［]", r"\g<0> ", m[0], count=1), text)
        text = parser.BARE.sub(lambda m: re.sub("[:：]", r" \g<0>", m[0], count=1), text)
        text = re.sub(r"\[(?=\|(?:Human|AI)\|\])", "[ ", text)
    return _SPECIAL.sub(r"\g<0> ", text)


def original_rule(text):
    """`Parsed` by the rule of Baize's released code, re-told in our own words for the comparison in notebook 02.

    Cut the text at each [Human]. The last piece is always dropped, whole or not; the first piece before it that is
    not one human and one [AI] statement ends the dialogue.
    """
    before, *pieces = text.split("[Human]")
    if not pieces:
        return _by_rule([], "no [Human]", [before])
    messages = []
    for number, piece in enumerate(pieces[:-1]):
        turns = [turn.strip() for turn in piece.split("[AI]")]
        if len(turns) != 2 or not all(turns):
            return _by_rule(messages, "the first odd piece, and all after it", pieces[number:])
        messages += [{"role": role, "content": turn} for role, turn in zip(MARKERS, turns, strict=True)]
    return _by_rule(messages, "the last piece, always", pieces[-1:])


def _by_rule(messages, reason, pieces):
    return Parsed(messages, len(messages) // 2, reason, [(piece.strip(), reason) for piece in pieces])
