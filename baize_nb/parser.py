"""Reading a transcript that a model wrote, whatever it made of the format it was asked for.

Knows: how role markers are written in the wild, what is no marker, and what to do with turns that don't fit.
Does not know: the Baize training text (transcript.py), models, files. Built in notebook 02.

The rule for all faults: keep every exchange that is whole, and name everything that is left out.
"""

import re
from bisect import bisect
from collections import Counter
from typing import NamedTuple

_ROLES = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "ai assistant": "assistant"}
_NAME = r"(?P<name>human|user|ai[ ]assistant|ai|assistant)"
_BEFORE = r"^[ \t]*(?:\#{1,6}[ \t]+)?(?P<bold>\*{1,2}|_{1,2})?"
_FLAGS = re.IGNORECASE | re.MULTILINE | re.VERBOSE

# [Human] [|Human|] 【Human】 **[Human]:** ### [Human]: … but not the link [AI](https://…)
BRACKETED = re.compile(
    rf"{_BEFORE} [\[【［][|｜]? {_NAME} [|｜]?[\]】］] (?:[:：]?(?P=bold))? [ \t]*[:：]? (?!\()", _FLAGS
)
# Human: **Human**: **Human:** ### Human: … with a capital: `user: str` is a line of code.
BARE = re.compile(rf"{_BEFORE} (?-i:(?=[A-Z])) {_NAME} (?: (?P=bold)[:：] | [:：](?P=bold)? )", _FLAGS)

_FENCE = re.compile(r"^[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]+)*(`{3,}|~{3,})([^`\n]*)$", re.MULTILINE)
_REFUSAL = re.compile(
    r"\W*(?:i['’]?m (?:very )?sorry|i am (?:very )?sorry|sorry|unfortunately|as an ai|"
    r"i (?:can['’]?t|cannot|can not|won['’]?t|will not|am unable|am not able)|i['’]m (?:unable|not able))\b",
    re.IGNORECASE,
)
_INTRODUCTION = re.compile(
    r"(?:sure|certainly|of course|absolutely|okay|ok|here(?:['’]s| is| are)|below is|the following)\b.*[:.!]",
    re.IGNORECASE,
)
_TALK = r"(?:conversation|transcript|dialogue|dialog|chat)"
_THE_END = rf"(?:the\s)?(?:end\sof\s(?:the\s|this\s)?{_TALK}|{_TALK}\s(?:ends|ended|has\sended|is\sover)(?:\shere)?)"
_END_LINE = re.compile(
    rf"[\[(<*_]+(?:(?:the\s)?end|{_THE_END})[.!]?[\])>*_]+ | {_THE_END}[.!]? | -{{3,}} | \*{{3,}} | _{{3,}}",
    re.IGNORECASE | re.VERBOSE,
)
_AFTERWORD = re.compile(
    rf"(?:i hope (?:this|that)|let me know if|would you like me to (?:continue|add|write|change|adjust)"
    rf"|(?:note(?: that|:) )?this {_TALK}|the {_TALK} above)\b",
    re.IGNORECASE,
)
_HELLO = re.compile(r"(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day))(?: there)?[\s,.!]*", re.I)
_HOW_CAN_I_HELP = re.compile(r".{0,80}\bhow (?:can|may|could) i (?:help|assist) you\b.{0,30}", re.I | re.S)

LAST = "the last human turn has no answer"
UNANSWERED = "a human turn has no answer"
UNASKED = "an assistant turn follows no human turn"
_FAULTS = (LAST, UNANSWERED, UNASKED)  # the rest that may be cut was no part of the dialogue


class Parsed(NamedTuple):
    """What a parser found.

    messages : whole exchanges, user first, [{"role", "content"}]. kept : their number (half as many).
    reason   : "" where every exchange was kept, else one sentence on what is wrong.
    cut      : [(text, why)] of everything that was left out, words around the transcript included.
    """

    messages: list
    kept: int
    reason: str
    cut: list


class Turn(NamedTuple):
    """One turn as it was found. content: what was said; raw: the same with its marker."""

    role: str
    content: str
    raw: str


def read(text):
    """`Parsed` of a model's transcript: `transcript.parse` without our own training text. Never raises."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    marks = _markers(text)
    if not marks:
        reason = "no role markers" + (": it reads like a refusal" if _REFUSAL.match(text) else "")
        return Parsed([], 0, reason, [(text.strip(), reason)] if text.strip() else [])
    turns = turns_of(text, marks)
    first, cut = _opening(text[: marks[0].start()], turns[0].role)
    turns, after = _without_afterword(first + turns, wrapped=_opens_fence(text[: marks[0].start()]))
    turns, greeting = _without_greeting(turns)
    return exchanges(turns, cut + greeting, after)


def turns_of(text, marks):
    """Turns between role markers. marks: matches with a group `name`, in order."""
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        Turn(_ROLES[mark["name"].lower()], text[mark.end() : end].strip(), text[mark.start() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]


def exchanges(turns, before=(), after=()):
    """`Parsed` of turns in any order. before, after: what was cut around them already.

    Of two human turns in a row the last is kept: it stands next to the answer. Of two answers in a row the first is
    kept: it stands next to the question. Joining them would make a text that nobody wrote. An empty turn is none.
    """
    messages, cut, asked = [], list(before), None
    for turn in turns:
        if not turn.content:
            cut.append((turn.raw, "an empty turn"))
        elif turn.role == "user":
            if asked:
                cut.append((asked.raw, UNANSWERED))
            asked = turn
        elif asked:
            messages += [{"role": t.role, "content": t.content} for t in (asked, turn)]
            asked = None
        else:
            cut.append((turn.raw, UNASKED))
    if asked:
        cut.append((asked.raw, LAST))
    cut += after
    return Parsed(messages, len(messages) // 2, _reason(cut, bool(messages)), cut)


def _reason(cut, kept):
    """One sentence on the faults among `cut`; where nothing at all was kept, on everything."""
    faults = Counter(why for _, why in cut if why in _FAULTS)
    if not faults and not kept:
        return "no exchange: " + ", ".join(dict.fromkeys(why for _, why in cut))
    return "; ".join(why + (f" ({n} times)" if n > 1 else "") for why, n in faults.items())


def _markers(text):
    """Matches of the role markers of this text. One that stands in a code block is none.

    Where names have brackets, a name without them is no marker: "User:" may well begin a line of an answer.
    """
    bare, bracketed = _bare(text), list(BRACKETED.finditer(text))
    marks = bracketed if _outside(bracketed, _code_blocks(text, bare)) else bare
    return _outside(marks, _code_blocks(text, marks))


def _bare(text):
    """Matches of names without brackets: none unless a human speaks, and only in the spelling that came first."""
    marks, spelling = list(BARE.finditer(text)), {}
    for mark in marks:
        spelling.setdefault(_ROLES[mark["name"].lower()], mark["name"])
    return [mark for mark in marks if mark["name"] in spelling.values()] if "user" in spelling else []


def _outside(marks, blocks):
    """The marks that stand in none of the blocks. Both are in order."""
    starts = [start for start, _ in blocks]
    blocks = [(0, 0), *blocks]
    return [mark for mark in marks if mark.start() >= blocks[bisect(starts, mark.start())][1]]


def _code_blocks(text, marks):
    """[(start, end)] of the fenced code blocks after the first marker.

    A fence before it is put round the whole transcript, which is then no code. A fence that is never closed opens
    nothing, or all that follows would be lost; a second opening line shows that the first was never closed.
    """
    if not marks:
        return []
    blocks, opened = [], None
    for fence in _FENCE.finditer(_blanked(text, marks), marks[0].start()):
        if opened and not fence[2].strip() and fence[1].startswith(opened[1]):
            blocks.append((opened.start(1), fence.end()))
            opened = None
        elif not opened or fence[2].strip():
            opened = fence
    return blocks


def _blanked(text, marks):
    """The text with spaces for markers, so that a fence behind one stands at the start of its line."""
    parts, end = [], 0
    for mark in marks:
        parts += [text[end : mark.start()], " " * (mark.end() - mark.start())]
        end = mark.end()
    return "".join([*parts, text[end:]])


def _opens_fence(before):
    """Whether the last fence before the first marker is an open one."""
    return len(_FENCE.findall(before)) % 2 == 1


def _opening(before, role):
    """([first turn] or [], cut) of what stands before the first marker.

    If the first marker is the assistant's, the human's was forgotten, and the words before it are the human's,
    except for an introduction ("Sure, here is …:"). If it is the human's, all before it is an introduction.
    """
    said = before.strip() if role == "assistant" else ""
    while said:
        line, _, rest = said.partition("\n")
        if not (_INTRODUCTION.fullmatch(line.strip()) or _FENCE.match(line)):
            break
        said = rest.lstrip()
    introduction = before.strip().removesuffix(said).strip()
    turns = [Turn("user", said, said)] if said else []
    return turns, [(introduction, "before the transcript")] if introduction else []


def _without_afterword(turns, wrapped):
    """(turns, cut): the last turn without what a model adds when it is done: "[End]", "I hope this helps", a fence."""
    last = turns[-1]
    content, fences = last.content, list(_FENCE.finditer(last.content))
    if wrapped and len(fences) % 2:
        content = content[: fences[-1].start()].rstrip()
    for _ in range(4):  # an afterword has a few parts; a reply of a megabyte of them is no reason to hang
        head, _, line = content.rpartition("\n")
        rest, gap, paragraph = content.rpartition("\n\n")
        if _END_LINE.fullmatch(line.strip()):
            content = head.rstrip()
        elif gap and _AFTERWORD.match(paragraph.strip()):
            content = rest.rstrip()
    after = last.content[len(content) :]
    if not after:
        return turns, []
    turns = [*turns[:-1], last._replace(content=content, raw=last.raw.removesuffix(after))]
    return turns, [(after.strip(), "after the transcript")]


def _without_greeting(turns):
    """(turns, cut): without a first "Hello!" and "How can I help you?", which the prompt had said already."""
    hello = turns[0].role == "user" and _HELLO.fullmatch(turns[0].content) is not None
    offer = turns[hello : hello + 1]
    if offer and offer[0].role == "assistant" and _HOW_CAN_I_HELP.fullmatch(offer[0].content):
        return turns[hello + 1 :], [(turn.raw, "a greeting") for turn in turns[: hello + 1]]
    return turns, []
