"""Other people's corpora: read in whatever shape they have, with nothing skipped in silence.

A file is JSON lines, a JSON list, lists inside an object, CSV or parquet, told by its content; memory does not grow
with it. Our own corpus.jsonl has a stricter reader, `read` in dialogue.py.
"""

import codecs
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import common
from ..common import CourseError
from ..seeds import parts_of, table
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

    path    : JSON list, JSON lines, CSV or parquet, of Baize, ShareGPT, Alpaca … or of our own corpus.
    format  : one of formats.FORMATS ("baize" "sharegpt" …), or None: told record by record.
    source, license : written into every dialogue; without them what the file says, else the file's name and "".
    aside   : where records that can't be read go, with the reason; True: `<name>.unreadable.jsonl` beside the file.
    encoding : of the text; None: UTF-8, UTF-16 or UTF-32, told by the first bytes.
    user, assistant, messages : the columns to read of any other format: that with the questions (or several,
              joined by an empty line) and that with the answers; or one that holds whole conversations.

    After a whole pass: unreadable, [Record]; notes, {what of some dialogues was left out: dialogues}; formats, {format:
    dialogues}; aside, the file with what could not be read. Raises CourseError for a file that can't be read at all.
    """

    path: str | Path
    format: str | None = None
    source: str = ""
    license: str = ""
    aside: bool | str | Path | None = True
    encoding: str | None = None
    user: str | tuple = ()
    assistant: str | tuple = ()
    messages: str = ""

    def __post_init__(self):
        if self.format is not None and self.format not in FORMATS:
            raise CourseError(f"There is no format {self.format!r}. Choose one of {', '.join(FORMATS)}, or None.")
        user, assistant = ((c,) if isinstance(c, str) else tuple(c) for c in (self.user, self.assistant))
        if bool(user) != bool(assistant) or (user and self.messages):
            raise CourseError("Name the columns of both user and assistant, or that of messages, and nothing else.")
        self.columns = Columns(user, assistant, self.messages) if user or self.messages else None
        self.path = Path(self.path)
        self._aside = self.path.with_name(self.path.name + ".unreadable.jsonl") if self.aside is True else self.aside
        self.unreadable, self.notes, self.formats, self.aside, self.dialogues = [], Counter(), Counter(), None, []

    def __iter__(self) -> Iterator[Dialogue]:
        self.unreadable, self.notes, self.formats, self.aside = [], Counter(), Counter(), None
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
                if notes:
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

_KEY = r'"((?:[^"\\]|\\.)*)"\s*:\s*'
_SCALAR = r'(?:"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*,\s*'
_OPENING = re.compile(rf"\{{\s*{_KEY}(?:{_SCALAR}{_KEY})?")  # an object's first key, its second where that is near
_WRAPPED_LIST = re.compile(rf"\s*[{{,]\s*(?:{_KEY}{_SCALAR})*{_KEY}\[(?=\s*[{{\[])")
_CONVERSATION = re.compile(rf'\[\s*\{{\s*(?:{_KEY}{_SCALAR})?"(?:role|from)"\s*:')
_BLANK = "\ufeff\x1e \t\r\n,"
_NOT_JSON = (ValueError, RecursionError)
_decode = json.JSONDecoder().raw_decode
codecs.register_error("baize_nb.half", lambda error: ("\ud800", error.end))  # formats.py refuses it by name


def _records(stream):
    """Every `Record` of a file, in order. One that is not JSON comes with the reason, and the next ones still come.

    Bytes that are not UTF-8 come as lone surrogates, so that a fault costs one record and not the file.
    """
    path = stream.path
    try:
        with path.open("rb") as file:
            opened = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with opened(path, "rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            yield from _rows(path)
            return
        if head in (b"PK\x03\x04", b"\x28\xb5\x2f\xfd"):
            raise CourseError(
                f"{common.show(path)} is an archive or a spreadsheet. Unpack it, or save it as CSV or JSON."
            )
        encoding = stream.encoding or json.detect_encoding(head).replace("utf-8-sig", "utf-8")
        errors = "surrogateescape" if encoding == "utf-8" else "baize_nb.half"
        with opened(path, "rt", encoding=encoding, errors=errors) as file:
            yield from _text_records(file, stream)
    except (OSError, EOFError, LookupError, zlib.error) as error:
        raise CourseError(f"Cannot read {common.show(path)} ({getattr(error, 'strerror', None) or error}).") from error


def _text_records(file, stream):
    """The records of a text file; which of the readers below fits is told by its first lines."""
    needed = stream.columns.needed() if stream.columns else None

    def known(value):
        return isinstance(value, dict) and (needed <= value.keys() if needed else detect(value) != "")

    head = file.read(CHUNK)
    file.seek(0)
    text = head.lstrip(_BLANK)
    start = len(head) - len(text)
    lines = [line for line in text.split("\n")[:20] if line.strip()]
    values = [_line_value(line) for line in lines]
    wrapper = _WRAPPED_LIST.match(text)
    if text.startswith("[") and not _CONVERSATION.match(text):  # that is one conversation
        return _entries(_Window(file, start + 1), known, stream.notes, "]")
    several = len(lines) > 1 and values[0]  # records, one a line
    if wrapper and not several and not known({wrapper[wrapper.lastindex]: ""}) and not known(values[0]):
        return _entries(_Window(file, start + wrapper.end()), known, stream.notes, "]")
    goes_on = lines and (re.search(r"[{[,]\s*$|\}[\s,]*\{", lines[0]) or len(lines[0]) > CHUNK // 2)
    if text[:1] in ("{", "[") and not values[0] and goes_on:
        return _entries(_Window(file, start), known, stream.notes, "")
    if any(isinstance(value, dict | list) for value in values) or stream.path.suffix == ".jsonl" or not text:
        return _lines(file, known)
    if stream.columns or {".csv", ".tsv"} & set(stream.path.suffixes):
        return _table_records(file)
    raise CourseError(
        f"{common.show(stream.path)}: neither JSON nor CSV nor parquet, not a list of dialogues. Save it "
        "as a JSON list, as one dialogue a line, or as parquet; or name columns: load(path, user=…, assistant=…)."
    )


def _line_value(line):
    with suppress(*_NOT_JSON):
        return json.loads(line.strip(_BLANK))


def _table_records(file):
    """Rows of a table. Its first is the header; one with more fields has a mark in a text that is not quoted."""
    rows = table(line.removesuffix("\n") for line in file)
    names = [name.strip(_BLANK) for name in next(rows)[1]]
    for number, (line, fields) in enumerate(rows, start=1):
        reason = fields if isinstance(fields, str) else "more fields than the header has" * any(fields[len(names) :])
        yield Record(number, f"line {line}", dict(zip(names, fields, strict=False)), reason, fields)


def _lines(file, known):
    """JSON lines; empty ones are skipped. A line that holds several records, in a list or an object, gives them all."""
    for number, line in enumerate(file, start=1):
        if text := line.strip(_BLANK):  # a comma behind it does no harm
            parts, at, end = [], 0, 0
            while at < len(text):  # one value as a rule
                try:
                    value, end = _decode(text, at)
                except _NOT_JSON as error:
                    yield Record(number, f"line {number}", None, _not_json(error, True), text[at:])
                    break
                parts += parts_of(value, known)
                at = len(text) - len(text[end:].lstrip(_BLANK))
            yield from (Record(number + i, f"line {number}", part) for i, part in enumerate(parts))


def _rows(path):
    """Rows of a parquet file as dicts, without the fields that are null."""
    import pyarrow
    from pyarrow import parquet

    def values(batch):
        try:
            return batch.to_pylist()
        except (ValueError, OverflowError):  # a text or a date that is none must not cost its thousand neighbours
            return [v for i in range(len(batch)) for v in values(batch.slice(i, 1))] if len(batch) > 1 else [None]

    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(1000) for row in values(batch))
            for number, row in enumerate(rows, start=1):
                value = {k: v for k, v in (row or {}).items() if v is not None}
                yield Record(number, f"row {number}", value, "" if row else "a text that is no UTF-8, or an odd date")
    except pyarrow.ArrowException as error:
        raise CourseError(f"{common.show(path)}: a damaged parquet file ({error}). Fetch it again.") from error


def _entries(window, known, notes, end):
    """JSON values one behind the other, decoded out of a window that moves over the file. end: "]" inside a list."""
    number = 0
    while mark := window.mark():
        if mark != end:
            where = f"entry {number + 1} (line {window.line})"
            value, reason, raw = window.take(known)
            for part in [None] if reason else parts_of(value, known):
                number += 1
                yield Record(number, where, part, reason, raw)
            continue
        window.advance(window.at + 1)
        following = window.mark(1000)
        if another := _WRAPPED_LIST.match("," + window.text[window.at :]):  # the next list of the object
            window.advance(window.at + another.end() - 1)
        elif following in ("[", "{"):
            notes["behind the end of a list, read as well"] += 1
            window.closed = following == "{"
            window.advance(window.at + (following == "["))
        else:
            if rest := window.text[window.at :].strip("}]" + _BLANK):
                notes[f"text behind the end of the list left out: {_printable(repr(rest[:40]))}"] += 1
            return
    if end and not window.closed:
        notes["the list has no end: the file was cut short"] += 1


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

    def mark(self, ahead=1):
        """The next character that is no white space or comma, "" at the end; `ahead` characters of it are in `text`."""
        pattern = re.compile(f"[{_BLANK}]*")
        while True:
            self.advance(pattern.match(self.text, self.at).end())
            if self.at + ahead <= len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more()

    def take(self, known):
        """(value, "", "") of the entry that begins here, or (None, reason, its raw text); moves behind it."""
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except _NOT_JSON as error:
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
        """The raw text of a faulty entry; moves to the next one, or to the end of the file.

        The next one is an object that opens as others did, or is whole and known. It is sought from the faulty one's
        first characters on, since a quotation mark too many or too few shifts all others.
        """

        def is_entry(at):
            found = _OPENING.match(self.text, at)
            seen = self._openings.get(found[1], ()) if found else ()
            if seen and (found[2] in seen or found[2] is None or None in seen):
                return True
            try:
                return known(_decode(self.text, at)[0])
            except _NOT_JSON:
                return False

        if not self._openings:
            self._remember_opening()
        while True:
            braces = re.compile(r'\{(?=\s*")').finditer(self.text, self.at + 1)
            end = next((brace.start() for brace in braces if is_entry(brace.start())), len(self.text))
            if end < len(self.text) or self.ended:
                break
            self._more()
        raw = self.text[self.at : end]
        self.closed = "]" in raw[-9:]
        self.advance(end)
        return raw.strip(_BLANK)


def _not_json(error, of_line=False):
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}" + (f" at character {error.pos + 1})" if of_line else ")")
    return "not JSON (nested too deeply)" if isinstance(error, RecursionError) else f"not JSON ({error})"
