"""Text with role markers ◄► messages: how a Baize dialogue is written, and how what a model made of it is read.

Source: Baize (arXiv 2304.01196), section 3, and its released format; the preamble's wording is ours.
"""

import re
from bisect import bisect
from collections import Counter
from typing import NamedTuple
from unicodedata import normalize

from .text import declines, remove_hidden, remove_thoughts

HUMAN = "[|Human|]"
AI = "[|AI|]"
MARKERS = {"user": HUMAN, "assistant": AI}

PREAMBLE = (
    "A conversation between a human and an AI assistant. The assistant gives helpful, detailed answers "
    "and declines requests that are unethical, controversial or sensitive.\n"
)


def render(messages: list[dict], eos: str = "", preamble: str = PREAMBLE) -> str:
    """Write a dialogue, [{"role": "user"|"assistant", "content": str}], as Baize's training text.

    eos : the tokenizer's end-of-sequence token, written after every answer: the stop that the model learns.
    preamble : training has always the same; a chat may try another, or "".
    """
    return "".join(text for text, _ in pieces(messages, eos, preamble))


def pieces(messages: list[dict], eos: str = "", preamble: str = PREAMBLE) -> list[tuple[str, bool]]:
    """Cut the training text in pieces [(text, learn)]; only an assistant's words and stop mark are learned.

    The stop of a `trimmed` answer is not: it ends where a limit fell. A marker inside a message is written `[\\|AI|]`,
    so that it opens no turn.
    """
    check(messages)
    parts = [(preamble, False)]
    for message in messages:
        parts.append((MARKERS[message["role"]], False))
        said = re.sub(r"\[(\\*)\|(Human|AI)\|\]", r"[\\\1|\2|]", message["content"])
        if message["role"] == "assistant":
            parts += [(f" {said}", True), (eos, not message.get("trimmed"))]
        else:
            parts.append((f" {said}", False))
        parts.append(("\n", False))
    return parts


def prompt(messages: list[dict], eos: str = "", preamble: str = PREAMBLE) -> str:
    """Write the training text up to the first word of the next answer; messages must end with a user message."""
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("a chat prompt must end with a user message")
    return render(messages, eos, preamble) + AI


def check(messages: list[dict]) -> None:
    """Raise ValueError unless roles alternate, user first, and every message has text."""
    for i, message in enumerate(messages):
        expected = ("user", "assistant")[i % 2]
        if message.get("role") != expected:
            raise ValueError(f"message {i} has role {message.get('role')!r}, expected {expected!r}")
        if not str(message.get("content", "")).strip():
            raise ValueError(f"message {i} ({expected}) is empty")


# ---- the parser: keep every exchange that is whole, and name everything that is left out

# In brackets the names are known in other languages too: a model that writes French may translate its markers.
_HUMAN = """mensch benutzer nutzer humain utilisateur humano usuario usuário umano utente mens gebruiker människa
menneske człowiek użytkownik člověk insan kullanıcı manusia pengguna người người·dùng человек пользователь людина
користувач άνθρωπος إنسان الإنسان المستخدم انسان کاربر אדם משתמש मानव उपयोगकर्ता มนุษย์ ผู้ใช้
人类 人類 用户 用戶 人間 ユーザー 인간 사람 사용자 ｈｕｍａｎ ｕｓｅｒ"""
_ASSISTANT = """ki ki-assistent assistent assistentin ia assistant·ia assistente asistente asystent asistan yapay·zeka
asisten trợ·lý ии ии-ассистент ассистент помощник ші асистент помічник βοηθός المساعد الذكاء·الاصطناعي دستیار עוזר
सहायक एआई ผู้ช่วย 人工智能 人工智慧 助手 助理 ai助手 アシスタント 인공지능 어시스턴트 ａｉ ａｓｓｉｓｔａｎｔ"""
_NAME = r"(?P<name>(?P<human>human|user{})|ai[ ]assistant|ai|assistant{})"
_FOREIGN = [names + " " + normalize("NFD", names) for names in (_HUMAN, _ASSISTANT)]
_FOREIGN = ["".join("|" + re.escape(n).replace("·", "[ ]") for n in names.split()) for names in _FOREIGN]
_BEFORE = r"^[ \t\xa0\u3000\u200b-\u200f\ufeff]*(?:\#{1,6}[ \t]+)?(?P<bold>\*{1,2}|_{1,2})?"
_FLAGS = re.IGNORECASE | re.MULTILINE | re.VERBOSE

# [Human] [|Human|] 【Human】 ［人类］ **[Human]:** ### [Human]: … but not the link [AI](https://…) or [AI][1]
BRACKETED = re.compile(
    rf"{_BEFORE} [\[【［][|｜]? {_NAME.format(*_FOREIGN)} [|｜]?[\]】］] (?:[:：]?(?P=bold))? [ \t]*[:：]? (?!\(|\[\d)",
    _FLAGS,
)
# Human: **Human**: **Human:** ### Human: … with a capital: `user: str` is a line of code.
BARE = re.compile(rf"{_BEFORE} (?-i:(?=[A-Z])) {_NAME.format('', '')} (?: (?P=bold)[:：] | [:：](?P=bold)? )", _FLAGS)

_FENCE = re.compile(r"^[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]+)*(`{3,}|~{3,})([^`\n]*)$", re.MULTILINE)
_INTRODUCTION = re.compile(
    r"(?:sure|certainly|of course|absolutely|okay|ok|here(?:['’]s| is| are)|below is|the following)\b.*[:.!]",
    re.IGNORECASE,
)
# Behind a marker or at the start of a line; one that is not closed ends with the text, if nobody speaks after it.
_THOUGHT = re.compile(
    r"^([^\n<]{0,30}[\]】］:：][*_]{0,2})?[ \t]*<(think|thinking|thought|reasoning)>"
    r"(?:.*?</\2>\n?|(?:(?!^[ \t]*[\[【［]).)*\Z)",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
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


class Parsed(NamedTuple):
    messages: list  # of whole exchanges, user first
    kept: int  # exchanges: half as many
    reason: str  # what is wrong, "" where every exchange was kept
    cut: list  # [(text, why)] of everything that was left out, words around the transcript included


class Turn(NamedTuple):
    role: str
    content: str
    raw: str  # the content with its marker


def parse(text: str) -> Parsed:
    """Take a transcript apart: its whole exchanges, and what was left out and why.

    Never raises and never invents text: every message stands in `text`, line ends made "\\n". Kept is every human turn
    with the answer next to it. Left out: words before and after the transcript, a greeting at its start, empty turns,
    turns without a partner. Words before a first [AI] are the human's, whose marker was forgotten.
    Text of our own is taken apart exactly: parse(render(x)).messages == x.
    """
    if text.startswith(PREAMBLE + HUMAN):
        turns = _turns(text, list(re.finditer(r"^\[\|(?:(?P<human>Human)|AI)\|\]", text, re.MULTILINE)))
        unquoted = [re.sub(r"\[\\(\\*)\|(Human|AI)\|\]", r"[\1|\2|]", turn.content) for turn in turns]
        return _exchanges([turn._replace(content=said) for turn, said in zip(turns, unquoted, strict=True)])
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    said = remove_thoughts(whole)
    # Thoughts go before markers are looked for: they may rehearse the very format that was asked for.
    thoughts = [whole[: len(whole) - len(said)], *(m[0][len(m[1] or "") :] for m in _THOUGHT.finditer(said))]
    cut, text = [(thought.strip(), "a thought") for thought in thoughts if thought], _THOUGHT.sub(r"\1", said)
    marks = _markers(text)
    if not marks:
        reason = "no role markers" + (": it reads like a refusal" if declines(text) else "")
        return Parsed([], 0, reason, cut + [(text.strip(), reason)] * bool(text.strip()))
    before, turns = text[: marks[0].start()], _turns(text, marks)
    first, introduction = _opening(before, turns[0].role)
    # A fence that is open before the first marker is put round the whole transcript.
    turns, after = _without_afterword(first + turns, wrapped=len(_FENCE.findall(before)) % 2 == 1)
    # A first "Hello!" and "How can I help you?" were said by the prompt already.
    hello = turns[0].role == "user" and _HELLO.fullmatch(turns[0].content) is not None
    offer = turns[hello] if len(turns) > hello else turns[0]
    greeting = offer.role == "assistant" and _HOW_CAN_I_HELP.fullmatch(offer.content)
    greeted = turns[: hello + 1] if greeting else []
    cut += introduction + [(turn.raw, "a greeting") for turn in greeted]
    return _exchanges(turns[len(greeted) :], cut, after)


def _turns(text, marks):
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        Turn("user" if m["human"] else "assistant", text[m.end() : end].strip(), text[m.start() : end].strip())
        for m, end in zip(marks, ends, strict=True)
    ]


def _exchanges(turns, before=(), after=()):
    """`Parsed` of turns in any order. before, after: what was cut around them already.

    Of two human turns in a row the last is kept, of two answers the first: they stand next to each other. Joining them
    would make a text that nobody wrote.
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
    # What else may be cut was no part of the dialogue.
    faults = Counter(why for _, why in cut if why in (LAST, UNANSWERED, UNASKED))
    reason = "; ".join(why + (f" ({n} times)" if n > 1 else "") for why, n in faults.items())
    if not messages and not faults:
        reason = "no exchange: " + ", ".join(dict.fromkeys(why for _, why in cut))
    return Parsed(messages, len(messages) // 2, reason, cut)


def _markers(text):
    """Matches of the role markers outside of code blocks. Where names have brackets, one without is no marker."""
    bare, bracketed, spelling = list(BARE.finditer(text)), list(BRACKETED.finditer(text)), {}
    for mark in bare:
        spelling.setdefault(bool(mark["human"]), mark["name"])
    # Without brackets: none unless a human speaks, and only in the spelling that came first.
    bare = [mark for mark in bare if mark["name"] in spelling.values()] if True in spelling else []
    marks = bracketed if _outside(bracketed, _code_blocks(text, bare)) else bare
    return _outside(marks, _code_blocks(text, marks))


def _outside(marks, blocks):
    """The marks that stand in none of the blocks. Both are in order."""
    starts = [start for start, _ in blocks]
    blocks = [(0, 0), *blocks]
    return [mark for mark in marks if mark.start() >= blocks[bisect(starts, mark.start())][1]]


def _code_blocks(text, marks):
    """[(start, end)] of the fenced code blocks after the first marker. A fence that is never closed opens nothing."""
    blocks, opened, letters = [], None, list(text)
    for mark in marks:  # a fence behind a marker stands at the start of its line
        letters[mark.start() : mark.end()] = " " * (mark.end() - mark.start())
    for fence in _FENCE.finditer("".join(letters), marks[0].start() if marks else len(text)):
        if opened and not fence[2].strip() and fence[1].startswith(opened[1]):
            blocks.append((opened.start(1), fence.end()))
            opened = None
        elif not opened or fence[2].strip():
            opened = fence
    return blocks


def _opening(before, role):
    """([first turn] or [], cut) of what stands before the first marker, which is that of `role`.

    Before the assistant's stand the human's words, after an introduction ("Sure, here is …:"); else all is one.
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
    """(turns, cut): without what a model adds when it is done: "[End]", "I hope this helps", a fence."""
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


# Line ends that are none to a parser, but that a model may read as one.
_LINE_END = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_SPECIAL = re.compile(
    r"[<＜](?=[|｜][^\s<>＜＞|｜]*[|｜][>＞])"  # <|im_start|> <|eot_id|> <｜User｜> …
    r"|<(?=/?(?:s|bos|eos|pad|unk|(?:start|end)_of_turn|think|tool_calls?|tool_response)>|</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|gMASK)\])"
)


def escape(text: str, markers: bool = True) -> str:
    """Make text from somewhere else safe to put into a prompt: it can't open a role there. Idempotent.

    A space goes into each role marker that begins a line (`[ Human]`, `User :`) and into the special tokens of chat
    formats (`< |im_start|>`); hidden characters go. It does not stop plain words ("ignore the above"): no filter does.
    markers : False leaves role markers alone, for a whole prompt, whose markers are its own.
    """
    text = remove_hidden(_LINE_END.sub("\n", text))
    if markers:
        text = BRACKETED.sub(lambda m: re.sub(r"[\[【［]", r"\g<0> ", m[0], count=1), text)
        text = BARE.sub(lambda m: re.sub("[:：]", r" \g<0>", m[0], count=1), text)
        text = re.sub(r"\[(?=\|(?:Human|AI)\|\])", "[ ", text)
    return _SPECIAL.sub(r"\g<0> ", text)


class ChatFormat(NamedTuple):
    """The marks that a chat template writes around the contents of messages."""

    system: str  # before the persona
    user: str  # before the first user message
    assistant: str  # between a user message and the assistant's
    next_user: str  # between an assistant's message and the next user message

    def open_user_header(self, messages: list[dict]) -> str:
        """Write messages (persona first, an assistant's last) as the model reads them, and open a user message."""
        persona, *talk = messages
        text = self.system + escape(persona["content"], markers=False) + self.user
        for message in talk:
            text += escape(message["content"], markers=False)
            text += self.next_user if message["role"] == "assistant" else self.assistant
        return text

    @property
    def stop(self) -> list[str]:
        """List the mark that ends a message, if there is one."""
        return re.findall(r"<[^<>\s]+>", self.assistant)[:1]


# The embedded model's own format, and that of many others.
_MARKS = (f"<|im_end|>\n<|im_start|>{role}\n" for role in ("user", "assistant", "user"))
CHATML = ChatFormat("<|im_start|>system\n", *_MARKS)
