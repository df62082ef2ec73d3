"""Other people's corpora: read in whatever shape they have, with nothing skipped in silence.

A file is JSON lines, a JSON list, lists inside an object, CSV or parquet, told by its content; memory does not grow
with it. Our own corpus.jsonl has a stricter reader, `read` in dialogue.py.
"""

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import common
from ..common import CourseError
from .dialogue import Dialogue, uncollected
from .formats import FORMATS, Columns, convert, detect

CHUNK = 1 << 18  # characters


class Record(NamedTuple):
    """One record of a file. number: from 1; where: "line 7"; value: its content; or the reason why it has none."""

    number: int
    where: str
    value: Any = None
    reason: str = ""
    raw: str = ""


@dataclass
class Stream:
    """The dialogues of a file, read anew each time they are asked for; memory grows with the faults only.

    path    : Baize JSON, ShareGPT, Alpaca, Dolly, prompts with completions, `messages` or our own corpus.
    format  : one of formats.FORMATS ("baize" "sharegpt" …), or None: told record by record.
    source, license : written into every dialogue; without them what the file says, else the file's name and "".
    aside   : where records that can't be read go, with the reason; True: `<name>.unreadable.jsonl` beside the file.
    encoding : of the text; None: UTF-8, UTF-16 or UTF-32, told by the first bytes.
    user, assistant, system, messages : for any other format, the columns to read: that with the questions (or several,
              joined by an empty line) and that with the answers; or one that holds whole conversations.

    After a whole pass: unreadable, [Record]; notes, {what of some dialogues was left out: dialogues}; formats, {format:
    dialogues}; aside, the file with what could not be read, or None. Raises CourseError, in the loop, for a file that
    can't be read at all. Two dialogues may have the same id.
    """

    path: str | Path
    format: str | None = None
    source: str = ""
    license: str = ""
    aside: bool | str | Path | None = True
    encoding: str | None = None
    user: str | tuple = ()
    assistant: str | tuple = ()
    system: str = ""
    messages: str = ""

    def __post_init__(self):
        if self.format is not None and self.format not in FORMATS:
            raise CourseError(f"There is no format {self.format!r}. Choose one of {', '.join(FORMATS)}, or None.")
        user, assistant = ((c,) if isinstance(c, str) else tuple(c) for c in (self.user, self.assistant))
        if bool(user) != bool(assistant) or (user and self.messages):
            raise CourseError("Name the columns of both user and assistant, or that of messages, and nothing else.")
        self.columns = Columns(user, assistant, self.system, self.messages) if user or self.messages else None
        self.path = Path(self.path)
        self._aside = self.path.with_name(self.path.name + ".unreadable.jsonl") if self.aside is True else self.aside
        self._forget()

    def _forget(self):
        self.unreadable, self.notes, self.formats, self.aside, self.dialogues = [], Counter(), Counter(), None, []

    def __iter__(self) -> Iterator[Dialogue]:
        self._forget()
        with ExitStack() as stack:
            for record in _records(self):
                try:
                    if record.reason:
                        raise ValueError(record.reason)
                    name = f"{self.path.stem}-{record.number:06d}"
                    dialogue, notes = convert(record.value, name, self.format, self.columns)
                except (ValueError, RecursionError) as error:
                    self._set_aside(record, _printable(error), stack)
                    continue
                dialogue.source = self.source or dialogue.source or self.path.stem
                dialogue.license = self.license or dialogue.license
                self.notes.update(set(map(_printable, notes)))
                self.formats["columns" if self.columns else self.format or detect(record.value) or "messages"] += 1
                yield dialogue

    def _set_aside(self, record, reason, stack):
        """Remember what is wrong, and write the record with it into the file beside."""
        self.unreadable.append(Record(record.number, record.where, reason=reason))
        if not self._aside:
            return
        if self.aside is None:
            temporary = stack.enter_context(common.atomic_write(self._aside))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self.aside = Path(self._aside)
        line = {"where": record.where, "reason": reason, "record": record.raw if record.reason else record.value}
        try:
            text = json.dumps(line, default=str)  # ASCII: the fault may be in the characters
        except RecursionError:
            text = json.dumps(line | {"record": "nested too deeply"})
        self._file.write(text + "\n")

    def __str__(self):
        shapes = ", ".join(f"{n:,} {name}" for name, n in self.formats.items())
        lines = [f"{self.formats.total():,} dialogues ({shapes or 'none'}), {len(self.unreadable):,} unreadable"]
        lines += [f"  {what}: {n:,}" for what, n in self.notes.items()]
        lines += [f"  {u.where}: {u.reason}" for u in self.unreadable[:5]]
        lines += [f"  … and {len(self.unreadable) - 5:,} more"] * (len(self.unreadable) > 5)
        lines += [f"  set aside in {common.show(self.aside)}"] if self.aside else []
        return "\n".join(lines)


def _printable(text):
    return str(text).encode(errors="backslashreplace").decode()[:300]


@uncollected()
def load(path, *arguments, **options) -> Stream:
    """Read all dialogues of a file into its `dialogues`; print it to see what could not be read. Arguments: `Stream`.

    An id met again gets its place in the file added, so that ids are different; notes count these.
    """
    loaded, seen = Stream(path, *arguments, **options), set()
    dialogues = []
    for place, dialogue in enumerate(loaded, start=1):
        if dialogue.id in seen:
            dialogue.id = f"{dialogue.id}#{place}"
            loaded.notes["an id met again, its place in the file added"] += 1
        seen.add(dialogue.id)
        dialogues.append(dialogue)
    loaded.dialogues = dialogues
    return loaded


# ---- where a record begins and ends

_FOREIGN = {b"PK\x03\x04": "an archive or a spreadsheet", b"\x28\xb5\x2f\xfd": "compressed by zstd"}  # the first bytes
_KEY = r'"((?:[^"\\]|\\.)*)"\s*:\s*'
_SCALAR = r'(?:"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*,\s*'
_OPENING = re.compile(
    rf"\{{\s*{_KEY}(?:{_SCALAR}{_KEY})?"
)  # of an object: its first key, its second where that is near
_WRAPPED_LIST = re.compile(rf"\s*[{{,]\s*(?:{_KEY}{_SCALAR})*{_KEY}\[(?=\s*[{{\[])")
_CONVERSATION = re.compile(r'\[\s*\{\s*"(?:role|from)"\s*:')
_decode = json.JSONDecoder().raw_decode


def _records(stream):
    """Every `Record` of a file, in order. One that is not JSON comes with the reason, and the next ones still come.

    Bytes that are not UTF-8 come as lone surrogates, so that a fault costs one record and not the file.
    """
    path, opened = stream.path, open
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head[:2] == b"\x1f\x8b":
            opened = gzip.open
            with gzip.open(path) as file:
                head = file.read(4)
        if head == b"PAR1":
            yield from _rows(path)
        elif head in _FOREIGN:
            raise CourseError(f"{common.show(path)} is {_FOREIGN[head]}. Unpack it, or save it as CSV or JSON.")
        else:
            encoding = stream.encoding or json.detect_encoding(head).replace("utf-8-sig", "utf-8")
            errors = "surrogateescape" if encoding == "utf-8" else "replace"
            with opened(path, "rt", encoding=encoding, errors=errors, newline="\n") as file:
                yield from _text_records(file, stream)
    except (OSError, EOFError, LookupError) as error:
        raise CourseError(f"Cannot read {common.show(path)} ({getattr(error, 'strerror', None) or error}).") from error


def _text_records(file, stream):
    """The records of a text file; which of the readers below fits is told by its first lines."""
    head = file.read(CHUNK)
    file.seek(0)
    text = head.lstrip("\ufeff \t\r\n")
    start = len(head) - len(text)
    lines = [line for line in text.split("\n")[:20] if line.strip()]
    whole = [value for line in lines if isinstance(value := _line_value(line), dict | list)]

    def known(value):
        names = stream.columns.names() - {stream.columns.system} if stream.columns else ()
        return isinstance(value, dict) and bool(names <= value.keys() if names else detect(value))

    if text.startswith("[") and not _CONVERSATION.match(text):
        return _entries(_Window(file, start + 1), known, stream.notes, "]")
    spread = text.startswith(("{", "[")) and not _line_value(lines[0])  # the first record has more lines than one
    if text.startswith("{") and (spread or (len(lines) == 1 and not known(whole[0]))):
        wrapper = _WRAPPED_LIST.match(text)
        if wrapper and not known({wrapper[wrapper.lastindex]: ""}):
            return _entries(_Window(file, start + wrapper.end()), known, stream.notes, "]")
    if spread and (lines[0].rstrip()[-1:] in "{[," or len(lines[0]) > CHUNK // 2):
        return _entries(_Window(file, start), known, stream.notes, "")
    if whole or stream.path.suffix in (".jsonl", ".ndjson") or not text:
        return _lines(file, known)
    if stream.columns or stream.path.suffix in (".csv", ".tsv"):
        return _table(file, stream.path, lines[0])
    raise CourseError(
        f"{common.show(stream.path)}: neither JSON nor CSV nor parquet, not a list of dialogues. Save it "
        "as a JSON list, as one dialogue a line, or as parquet; or name columns: load(path, user=…, assistant=…)."
    )


def _line_value(line):
    """The value of a whole line of JSON, or None. A comma behind it does no harm."""
    try:
        return json.loads(line.strip("\ufeff \t\r\n,"))
    except (ValueError, RecursionError):
        return None


def _lines(file, known):
    """JSON lines; empty ones are skipped. A line that holds several records, in a list or an object, gives them all."""
    for number, line in enumerate(file, start=1):
        if text := line.strip("\ufeff \t\r\n,"):
            where = f"line {number}"
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                at = f" at character {getattr(error, 'pos', 0) + 1}"
                yield Record(number, where, None, _not_json(error, at), line.rstrip("\n"))
            else:
                for i, part in enumerate(_parts(value, known)):
                    yield Record(number + i, where, part)


def _parts(value, known):
    """The records inside of a value that is none itself, a list or an object that holds some; else the value."""
    if isinstance(value, list) and any(map(known, value)):
        return value
    if isinstance(value, dict) and not known(value):
        lists = [inner for inner in value.values() if isinstance(inner, list) and any(map(known, inner))]
        if lists or any(map(known, value.values())):
            return [part for inner in lists for part in inner] or list(value.values())
    return [value]


def _table(file, path, head):
    """Rows of a CSV file with a header."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.DictReader(file, delimiter=max(",\t;|", key=head.count))
    try:
        for number, row in enumerate(rows, start=1):
            yield Record(number, f"line {rows.line_num}", {str(k).strip("\ufeff"): v for k, v in row.items()})
    except csv.Error as error:
        raise CourseError(f"{common.show(path)}:{rows.line_num}: {error}. Correct that line.") from error


def _rows(path):
    """Rows of a parquet file as dicts, without the fields that are null."""
    import pyarrow
    from pyarrow import parquet

    def values(batch):
        try:
            return batch.to_pylist()
        except UnicodeDecodeError as error:  # one text that is none must not cost its thousand neighbours
            one = len(batch) == 1
            return [error] if one else [found for i in range(len(batch)) for found in values(batch.slice(i, 1))]

    try:
        with parquet.ParquetFile(path) as file:
            found = (value for batch in file.iter_batches(1000) for value in values(batch))
            for number, value in enumerate(found, start=1):
                if isinstance(value, dict):
                    yield Record(number, f"row {number}", {k: v for k, v in value.items() if v is not None})
                else:
                    yield Record(number, f"row {number}", None, f"not text ({value.reason})")
    except pyarrow.ArrowException as error:
        raise CourseError(f"{common.show(path)}: a damaged parquet file ({error}). Fetch it again.") from error


def _entries(window, known, notes, end):
    """JSON values one behind the other, decoded out of a window that moves over the file. end: "]" inside a list."""
    number = 0
    while True:
        if (mark := window.mark()) and mark != end:
            where = f"entry {number + 1} (line {window.line})"
            value, reason, raw = window.take(known)
            for part in [None] if reason else _parts(value, known):
                number += 1
                yield Record(number, where, part, reason, raw)
        elif not mark:
            if end and not window.closed:
                notes["the list has no end: the file was cut short"] += 1
            return
        else:
            window.advance(window.at + 1)
            if another := window.match(_WRAPPED_LIST):  # the next list of the object
                window.advance(another.end())
            elif window.mark() in ("[", "{"):
                notes["behind the end of a list, read as well"] += 1
                window.advance(window.at + (window.mark() == "["))
            else:
                if rest := window.text[window.at :].strip("}] \t\r\n,;"):
                    notes[f"text behind the end of the list left out: {_printable(repr(rest[:40]))}"] += 1
                return


class _Window:
    """The part of a text file that is being decoded. at: where in `text`; line: which line of the file that is."""

    def __init__(self, file, start):
        self.file, self.text, self.at, self.line, self.ended, self.closed = file, "", 0, 1, False, False
        self._openings = {}  # {first key of an entry: {second keys}}: how entries of this file begin
        while len(self.text) < start:
            self._more()
        self.advance(start)

    def _more(self):
        """Drop what is done and read on; twice as much each time, so that a long entry is not decoded over and over."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))
        self.ended = not chunk
        self.text, self.at = self.text[self.at :] + chunk, 0

    def advance(self, to):
        """Move to `to`, counting lines."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def match(self, pattern):
        """The match of a pattern here, in the next thousand characters."""
        while len(self.text) < self.at + 1000 and not self.ended:
            self._more()
        return pattern.match(self.text, self.at)

    def mark(self):
        """The next character that is neither white space nor a comma; "" at the end of the file."""
        pattern = re.compile("[\\s,\ufeff]*")
        while True:
            self.advance(pattern.match(self.text, self.at).end())
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more()

    def take(self, known):
        """(value, "", "") of the entry that begins here, or (None, reason, its raw text); moves behind it."""
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                # The fault may only be that the window ends here: a pair of \uXXXX is valid as a whole only.
                edge = getattr(error, "pos", 0) >= len(self.text) - 12 or str(error).startswith("Unterminated")
                if self.ended or not edge:
                    return None, _not_json(error), self._skip(known)
            else:
                if end < len(self.text) or self.ended:  # at the edge, 12 may be the beginning of 123
                    self._remember_opening()
                    self.advance(end)
                    return value, "", ""
            self._more()

    def _remember_opening(self):
        if (found := _OPENING.match(self.text, self.at)) and len(self._openings) < 1000:
            self._openings.setdefault(found[1], set()).add(found[2])

    def _skip(self, known):
        """The raw text of a faulty entry; moves to the next one, or to the end of the file."""
        if not self._openings:
            self._remember_opening()
        while not (end := self._next_entry(known)) and not self.ended:
            self._more()
        raw = self.text[self.at : end or len(self.text)]
        self.closed = "]" in raw[-9:]
        self.advance(self.at + len(raw))
        return raw.strip(", \t\r\n")

    def _next_entry(self, known):
        """Where the next entry begins behind a faulty one: an object that opens as others did, or is whole and known.

        Sought from the faulty one's first characters on, since a quotation mark too many or too few shifts all others.
        """
        for brace in re.compile(r'\{(?=\s*")').finditer(self.text, self.at + 1):
            found = _OPENING.match(self.text, brace.start())
            seen = self._openings.get(found[1], ()) if found else ()
            if seen and (found[2] in seen or found[2] is None or None in seen):
                return brace.start()
            try:
                if known(_decode(self.text, brace.start())[0]):
                    return brace.start()
            except (ValueError, RecursionError):
                continue
        return 0


def _not_json(error, where=""):
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}{where})"
    return "not JSON (nested too deeply)" if isinstance(error, RecursionError) else f"not JSON ({error})"
