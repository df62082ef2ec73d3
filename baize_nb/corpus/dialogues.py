"""Dialogues and their files: our own, read strictly, and other people's, of which nothing is lost in silence."""

import gzip
import html
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from .. import common, transcript
from ..common import CourseError
from ..records import Record, json_records, table


@dataclass
class Dialogue:
    """One self-chat: what was asked, who talked, and what it cost. One line of corpus.jsonl.

    id       : the seed's id; one dialogue per seed, so it is the dialogue's id too.
    source   : the seed's, and so is the license. strategy : how the self-chat was made.
    messages : [{"role": "user"|"assistant", "content": str}], roles alternating, user first, assistant last; "trimmed":
               True in an answer that was cut back to its last whole sentence.
    usage    : {"prompt_tokens", "completion_tokens", "requests", …}, tokens of the teacher.
    end      : why it stopped ("max_turns", "no_question", "length", "repeat" …).
    """

    id: str
    seed: str = ""
    source: str = ""
    license: str = ""
    strategy: str = ""
    model: str = ""
    messages: list = field(default_factory=list)
    usage: dict = field(default_factory=dict)
    end: str = ""

    @property
    def turns(self) -> int:
        """Number of exchanges: one user message and its answer."""
        return len(self.messages) // 2

    def said_by(self, role: str) -> list[str]:
        """List the contents of all messages of "user" or "assistant", in order."""
        return [m["content"] for m in self.messages if m["role"] == role]

    def to_record(self) -> dict:
        """Return the fields as a dict, in the order above. Nothing is copied."""
        return {name: getattr(self, name) for name in TYPES}

    @classmethod
    def from_record(cls, record: dict) -> "Dialogue":
        """Make a dialogue from a dict, other fields ignored. Raises ValueError, in plain words, where it is none."""
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__}, not an object with fields")
        for name in ("id", "messages"):
            if not record.get(name):
                raise ValueError(f"no {name}")
        dialogue = cls(**{name: record[name] for name in TYPES if name in record})
        for name, kind in TYPES.items():
            value = getattr(dialogue, name)
            if not isinstance(value, kind):
                raise ValueError(f"field {name!r} is a {type(value).__name__}, not a {kind.__name__}")
        for i, message in enumerate(dialogue.messages):
            if not isinstance(message, dict) or not isinstance(message.get("content"), str):
                raise ValueError(f'message {i} is not {{"role": …, "content": "text"}}')
        transcript.check(dialogue.messages)
        if len(dialogue.messages) % 2:
            raise ValueError("the last user message has no answer")
        return dialogue

    def to_json(self) -> str:
        """Return the dialogue as one line of JSON, without the line end."""
        return json.dumps(self.to_record(), ensure_ascii=False)


TYPES = {f.name: f.type for f in fields(Dialogue)}


def read(path) -> list[Dialogue]:
    """Read all dialogues of a corpus.jsonl. Raises CourseError that names a line with a fault or an id met twice."""
    seen = set()

    def make(record):
        dialogue = Dialogue.from_record(record)
        if dialogue.id in seen:
            raise ValueError(f"its id {dialogue.id!r} stands on an earlier line already")
        seen.add(dialogue.id)
        return dialogue

    return list(common.read_jsonl(path, make, "dialogue"))


def write(dialogues: Iterable[Dialogue], path) -> Path:
    """Write a corpus as dialogues come, one a line, whole or not at all; return its path."""
    return common.write_text(path, (d.to_json() + "\n" for d in dialogues))


def write_sharegpt(dialogues: Iterable[Dialogue], path) -> Path:
    """Write a JSON list of {"id", "conversations": [{"from": "human"|"gpt", "value"}]}; return its path."""
    names, entries = {"user": "human", "assistant": "gpt"}, []
    for d in dialogues:
        said = [{"from": names[m["role"]], "value": m["content"]} for m in d.messages]
        entries.append({"id": d.id, "conversations": said})
    return common.write_text(path, json.dumps(entries, ensure_ascii=False, indent=1) + "\n")


def write_parquet(dialogues: Iterable[Dialogue], path) -> Path:
    """Write all fields of all dialogues as parquet; return its path. `usage` is JSON in a column."""
    import pyarrow as pa
    from pyarrow import parquet

    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("trimmed", pa.bool_())])
    schema = pa.schema((dict.fromkeys(TYPES, pa.string()) | {"messages": pa.list_(message)}).items())
    rows = [d.to_record() | {"usage": json.dumps(d.usage, ensure_ascii=False)} for d in dialogues]
    with common.atomic_write(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows, schema), temporary, row_group_size=5000)
    return Path(path)


# ---- other people's formats: what a record says becomes a dialogue, and what does not is told


class Columns(NamedTuple):
    """Which fields of a record hold the talk: `messages`, or `user` and `assistant`, each of one field or more."""

    user: tuple = ()
    assistant: tuple = ()
    messages: str = ""
    seed: str = ""

    def needed(self) -> set[str]:
        """Name the fields without which nothing can be read: of several with a question, the first."""
        return {*self.user[:1], *self.assistant, self.messages, self.seed} - {""}


FORMATS = {  # in the order in which a record is tried
    "messages": Columns(messages="messages"),
    "sharegpt": Columns(messages="conversations"),
    "conversation": Columns(messages="conversation"),
    "baize": Columns(messages="input", seed="topic"),
    "alpaca": Columns(("instruction", "input"), ("output",)),
    "dolly": Columns(("instruction", "context"), ("response",)),
    "prompt": Columns(("prompt",), ("completion",)),
}
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "ai", "bot", "model", "bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}


def detect(record) -> str:
    """Name the format that a record's fields are those of, or ""."""
    if isinstance(record, dict):
        for name, columns in FORMATS.items():
            if columns.needed() <= record.keys():
                return name
    return ""


def convert(record, name: str, columns: Columns | None = None) -> tuple[Dialogue, list[str]]:
    """Make (dialogue, notes) of one record of a file. notes: what of the record is not in the dialogue.

    name : the id, where the record has none. columns : the fields to read; None: those of the format that it has.
    Raises ValueError, in plain words, for a record that is no dialogue.
    """
    if isinstance(record, list):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, not an object with fields")
    if isinstance(record.get("usage"), str):
        with suppress(ValueError):  # JSON in a text, as `write_parquet` keeps it
            record = record | {"usage": json.loads(record["usage"])}
    if columns is None and record.keys() == TYPES.keys():
        with suppress(ValueError):  # our own, the common case and the fastest; the slow way says what is wrong
            dialogue = _encodable(Dialogue.from_record(record))
            dialogue.messages = [{k: v for k, v in m.items() if v is not None} for m in dialogue.messages]
            if all(m.keys() <= {"role", "content", "trimmed"} for m in dialogue.messages):
                return dialogue, []
    columns = columns or FORMATS.get(detect(record))
    if columns is None:
        names = ", ".join(map(str, list(record)[:8])) or "(none)"
        remedy = 'Name them: load(path, user="…", assistant="…"), or messages="…"'
        raise ValueError(f"no format has these fields: {names}. {remedy}")
    if missing := sorted(columns.needed() - record.keys()):
        raise ValueError(f"no {' and no '.join(missing)}")
    notes = []
    said = _said(record, columns, notes)
    used = {"id", "system", "history", *columns.user, *columns.assistant, columns.messages, columns.seed}
    made = {key: record[key] for key in record.keys() & TYPES.keys() - used}
    if columns.seed:
        made |= {"strategy": "transcript", "seed": record[columns.seed]}
    made = {key: value for key, value in made.items() if isinstance(value, TYPES[key])}
    lost = [str(key) for key in record if key not in used | made.keys() and not _empty(record[key])]
    if lost:
        notes.append(f"fields left out: {', '.join(sorted(lost)[:8])}")
    made["messages"], end = _exchanges(said, notes)
    made["id"] = str(record["id"]) if isinstance(record.get("id"), str | int) and record["id"] else name
    made["end"] = end or made.get("end", "")
    return _encodable(Dialogue.from_record(made)), notes


def _said(record, columns, notes):
    """[(who, text)] of a record, in order."""
    said = []
    if not _empty(record.get("system")):
        said.append(("system", "…"))  # told, and left out
    history = record.get("history")
    if not _empty(history):
        if isinstance(history, str):
            raise ValueError("its history is no list of [question, answer]")
        said += _turns(history, "its history", notes)
    if columns.messages:
        said += _turns(record[columns.messages], f"its {columns.messages}", notes)
        if columns.messages == "conversations":
            said = [(who, _without_html(text, notes)) for who, text in said]
        return said
    for role, names in (("user", columns.user), ("assistant", columns.assistant)):
        value = record[names[0]]
        if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
            said += _turns(value, f"its {names[0]}", notes)
        else:
            texts = [_text(record.get(name), f"its {name}", notes) for name in names]
            said.append((role, "\n\n".join(filter(None, texts))))
    return said


def _turns(value, what, notes):
    """[(who, text)] of a list of messages in any of the shapes they are kept in, or of a transcript in one text."""
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", "[["):  # JSON in a column of a table
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, str):
        parsed = transcript.parse(value)
        if parsed.reason and parsed.messages:
            notes.append("faulty parts of the transcript left out, its whole exchanges kept")
        return [(m["role"], m["content"]) for m in parsed.messages] + [("", parsed.reason)]
    if not isinstance(value, list):
        raise ValueError(f"{what} is a {type(value).__name__}, not a list")
    pairs = [turn for turn in value if isinstance(turn, list) and len(turn) == 2]
    named = pairs == value and all(_role(who) for who, _ in pairs)  # ["Human", "Hello!"]
    said = []
    for i, message in enumerate(value):
        where = f"message {i} of {what}"
        if isinstance(message, str) or message is None:
            said.append((("user", "assistant")[i % 2], message or ""))
        elif isinstance(message, list) and len(message) == 2:
            pair = [message] if named else [("user", message[0]), ("assistant", message[1])]
            said += [(who, _text(text, where, notes)) for who, text in pair]
        elif not isinstance(message, dict):
            raise ValueError(f"{where} is a {type(message).__name__}, not an object")
        elif who := message.get("role") or message.get("from"):
            texts = [message[key] for key in ("content", "value", "text") if message.get(key) is not None]
            said.append((who, _text(texts[0] if texts else "", where, notes)))
            extra = message.keys() - {"role", "from", "content", "value", "text"}
            if lost := sorted(str(key) for key in extra if message[key] is not None):
                notes.append(f"fields of messages left out: {', '.join(lost[:8])}")
        else:  # {"human": …, "assistant": …}
            known = [key for key in message if _role(key)]
            said += [(key, _text(message[key], where, notes)) for key in known] or [("nobody", "")]
    return said


def _role(who):
    return ROLES.get(str(who).strip().lower())


def _empty(value):
    return value in (None, False, "", [], {}) or (isinstance(value, float) and math.isnan(value))


def _text(value, what, notes):
    """A field as text: numbers as they are written, nothing as "", a list of parts as their texts."""
    if isinstance(value, str):
        return value
    if _empty(value):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        notes.append("a number taken as text")
        return json.dumps(value)
    if isinstance(value, list) and what.startswith("message"):
        texts = [part.get("text") if isinstance(part, dict) else part for part in value]
        if not all(isinstance(text, str) for text in texts):
            notes.append("parts of messages that are no text left out")
        return "\n\n".join(text for text in texts if isinstance(text, str))
    raise ValueError(f"{what} is a {type(value).__name__}, not a text")


def _exchanges(said, notes):
    """(messages, end) of [(who, text)]: every question with the answer next to it; notes say what was left out.

    As `transcript.parse` does it: of two questions in a row the last, of two answers the first. An answer that came by
    way of a tool is not next to its question.
    """
    messages, asked, end = [], None, ""
    for who, text in said:
        role = _role(who)
        if not who:  # why a transcript ended
            end = text
        elif role == "system":
            notes.append("a system message left out")
        elif role is None:
            notes.append(f"a turn of {str(who)[:20]!r} left out, and what it answers")
            asked = None
        elif not text.strip():
            notes.append("an empty turn left out")
        elif role == "user":
            if asked:
                notes.append("a question without an answer left out")
            asked = text
        elif asked:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
            asked = None
        else:
            notes.append("an answer without a question left out")
    if asked:
        notes.append("a last question without an answer left out")
        end = "the last human turn has no answer"
    if not messages:
        why = "; ".join(dict.fromkeys(notes)) or end
        raise ValueError("no question with an answer" + (f" ({why})" if why else ""))
    return messages, end


_MARKDOWN = {  # of the tags that nh3 leaves
    r"<pre>\s*([\w+#-]*)\s*<code>": r"\n\n```\1\n",
    r"\s*</code>\s*</pre>": "\n```\n\n",
    r"</?code>": "`",
    r"</?strong>": "**",
    r"\s*<li>\s*(?:<p>)?": "\n- ",
    r"</li>": "",
    r"</?\w+>": "\n\n",
    r"\s*\n\s*\n": "\n\n",
}


def _without_html(text, notes):
    """A message that is HTML as a whole, as browser extensions saved them, as Markdown; any other as it is."""
    if not re.fullmatch(r"\s*<(?:div|p|ul|ol|pre|h[1-6]|table)\b.*>\s*", text, re.DOTALL):
        return text
    import nh3

    notes.append("HTML made text")
    tags = {"p", "br", "pre", "code", "strong", "ul", "ol", "li", "h1", "h2", "h3", "h4", "tr"}
    text = nh3.clean(text, tags=tags, attributes={}, clean_content_tags={"button", "script", "style"})
    for pattern, replacement in _MARKDOWN.items():
        text = re.sub(pattern, replacement, text)
    return html.unescape(text).strip()


def _encodable(dialogue):
    """The dialogue. Raises ValueError where a text of it can't be written as UTF-8."""
    text = dialogue.to_json()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        if not "\udc80" <= half <= "\udcff":
            raise ValueError(f"not text: {half!a} is half a character") from error
        byte = half.encode(errors="surrogateescape")  # as `_records` lets it pass
        remedy = 'Save the file as UTF-8, or say what it is: load(path, encoding="cp1252")'
        fault = f"not UTF-8: a byte {byte!r}, in cp1252 {byte.decode('cp1252', 'replace')!r}"
        raise ValueError(f"{fault}. {remedy}") from error
    return dialogue


@dataclass
class Stream:
    """The dialogues of a file, read anew each time they are asked for.

    path    : JSON list, JSON lines, CSV or parquet, of Baize, ShareGPT, Alpaca … or of our own corpus. Of JSON lines
              and parquet only the dialogue at hand is in memory.
    source, license : written into every dialogue; without them what the file says, else the file's name and "".
    encoding : of the text; None: UTF-8, UTF-16 or UTF-32, told by the first bytes.
    user, assistant, messages : the columns to read of any other format: that with the questions (or several,
              joined by an empty line) and that with the answers; or one that holds whole conversations.
    aside   : whether records that can't be read go to `<name>.unreadable.jsonl` beside the file, with the reason.

    After a whole pass: unreadable, ["entry 7 (line 9): why"]; notes, {what of some dialogues was left out: dialogues};
    formats, {format: dialogues}; aside, the file of what could not be read. Raises CourseError for an unreadable file.
    """

    path: str | Path
    source: str = ""
    license: str = ""
    encoding: str | None = None
    user: str | tuple = ()
    assistant: str | tuple = ()
    messages: str = ""
    aside: bool | Path | None = True

    def __post_init__(self):
        user, assistant = ((c,) if isinstance(c, str) else tuple(c) for c in (self.user, self.assistant))
        if bool(user) != bool(assistant) or (user and self.messages):
            raise CourseError("Name the columns of both user and assistant, or that of messages, and nothing else.")
        self.columns = Columns(user, assistant, self.messages) if user or self.messages else None
        self.path = Path(self.path)
        self._aside = self.path.with_name(self.path.name + ".unreadable.jsonl") if self.aside else None
        self._begin()

    def _begin(self):
        self.unreadable, self.notes, self.formats, self.aside = [], Counter(), Counter(), None

    def __iter__(self) -> Iterator[Dialogue]:
        self._begin()
        with ExitStack() as stack:
            for number, record in enumerate(_records(self.path, self.encoding, self.columns), start=1):
                where = f"entry {number} (line {record.line})" if record.line else f"row {number}"
                try:
                    if record.reason:
                        raise ValueError(record.reason)
                    dialogue, notes = convert(record.value, f"{self.path.stem}-{number:06d}", self.columns)
                except (ValueError, TypeError, RecursionError) as error:
                    self.unreadable.append(_printable(f"{where}: {error}"))
                    if self._aside and not self.aside:
                        temporary = stack.enter_context(common.atomic_write(self._aside))
                        file = stack.enter_context(temporary.open("w", encoding="utf-8"))
                        self.aside = self._aside
                    if self.aside:
                        line = {"where": where, "reason": str(error), "record": record.raw or record.value}
                        file.write(json.dumps(line, default=str) + "\n")  # ASCII: the fault may be in the characters
                    continue
                dialogue.source = self.source or dialogue.source or self.path.stem
                dialogue.license = self.license or dialogue.license
                self.notes.update(set(map(_printable, notes)))
                self.formats["columns" if self.columns else detect(record.value) or "messages"] += 1
                yield dialogue

    def __str__(self):
        shapes = ", ".join(f"{n:,} {name}" for name, n in self.formats.items())
        lines = [f"{self.formats.total():,} dialogues ({shapes or 'none'}), {len(self.unreadable):,} unreadable"]
        lines += [f"  {what}: {n:,}" for what, n in self.notes.items()]
        lines += [f"  {fault}" for fault in self.unreadable[:5]]
        if len(self.unreadable) > 5:
            lines.append(f"  … and {len(self.unreadable) - 5:,} more")
        if self.aside:
            lines.append(f"  set aside in {common.show(self.aside)}")
        return "\n".join(lines)


def load(path, **options) -> Stream:
    """Read all dialogues of a file into its `dialogues`; print it to see what could not be read. Options: `Stream`.

    An id met again gets its place in the file added, so that ids are different; notes count these.
    """
    loaded, seen, dialogues = Stream(path, **options), set(), []
    for place, dialogue in enumerate(loaded, start=1):
        if dialogue.id in seen:
            dialogue.id = f"{dialogue.id}#{place}"
            loaded.notes["an id met again, its place in the file added"] += 1
        seen.add(dialogue.id)
        dialogues.append(dialogue)
    loaded.dialogues = dialogues
    return loaded


def _printable(text):
    return str(text).encode(errors="backslashreplace").decode()[:300]


def _records(path, encoding, columns):
    """A `Record` for everything in a file. Bytes that are not UTF-8 are lone surrogates: a fault costs one record."""
    try:
        with path.open("rb") as file:
            opened = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with opened(path, "rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            yield from _rows(path)
            return
        encoding = encoding or json.detect_encoding(head)
        with opened(path, "rt", encoding=encoding, errors="surrogateescape") as file:
            yield from _text_records(file, path, columns)
    except (OSError, EOFError, LookupError, UnicodeError, zlib.error) as error:
        raise CourseError(f"Cannot read {common.show(path)} ({getattr(error, 'strerror', None) or error}).") from error


def _text_records(file, path, columns):
    """The records of a text file: JSON lines, a JSON text, or a table, told by how it begins."""

    def known(value):
        return isinstance(value, dict) and (columns.needed() <= value.keys() if columns else detect(value) != "")

    def value(line):
        with suppress(ValueError, RecursionError):
            return json.loads(line.strip(blank))

    blank = "\ufeff\x1e \t\r\n,"
    head = file.read(1 << 20)
    file.seek(0)
    values = [value(line) for line in head.split("\n")[:20] if line.strip(blank)]
    start = head.strip(blank)[:1]
    lines = not start or isinstance(values[0], dict | list) or (start != "[" and any(map(known, values)))
    if lines or (path.suffix == ".jsonl" and start not in "[{"):
        for number, line in enumerate(file, start=1):
            yield from json_records(line, known, number)
    elif start in "[{":
        yield from json_records(file.read(), known)
    elif columns or {".csv", ".tsv"} & set(path.suffixes):
        rows = table(file.read())
        names = [name.strip(blank) for name in next(rows)[1]]
        for line, row in rows:
            reason = row if isinstance(row, str) else "more fields than the header has" * any(row[len(names) :])
            yield Record(line, dict(zip(names, row, strict=False)), reason, row)
    else:
        fault = f"{common.show(path)}: neither JSON nor CSV nor parquet, not a list of dialogues."
        remedy = "Save it as a JSON list, as one dialogue a line, or as parquet"
        raise CourseError(f"{fault} {remedy}; or name columns: load(path, user=…, assistant=…).")


def _rows(path):
    """Rows of a parquet file as dicts, without the fields that are null."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            rows = (batch.slice(i, 1) for batch in file.iter_batches(1000) for i in range(len(batch)))
            for row in rows:
                try:
                    value, reason = {k: v for k, v in row.to_pylist()[0].items() if v is not None}, ""
                except (ValueError, OverflowError):
                    value, reason = None, "a text that is no UTF-8, or an odd date"
                yield Record(0, value, reason)
    except pyarrow.ArrowException as error:
        raise CourseError(f"{common.show(path)}: a damaged parquet file ({error}). Fetch it again.") from error
