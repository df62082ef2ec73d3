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
from pathlib import Path
from typing import Any, NamedTuple

from .. import common
from ..common import CourseError
from .dialogue import Dialogue, uncollected
from .formats import FORMATS, Columns, convert, detect

CHUNK = 1 << 18  # characters
_ESCAPE = 12  # characters of the longest thing in JSON that is only valid as a whole, a pair of \uXXXX


class Unreadable(NamedTuple):
    """A record that is no dialogue. number: from 1; where: "line 7"; reason: in plain words."""

    number: int
    where: str
    reason: str


class Loaded(NamedTuple):
    """What `load` gives back.

    dialogues  : [Dialogue]. unreadable : [Unreadable]; `aside` is the file that has their text, or None.
    notes      : {what of some dialogues was left out: dialogues}. formats : {format: dialogues}.
    """

    dialogues: list[Dialogue]
    unreadable: list[Unreadable]
    notes: dict[str, int]
    formats: dict[str, int]
    aside: Path | None

    def __str__(self):
        shapes = ", ".join(f"{n:,} {name}" for name, n in self.formats.items())
        lines = [f"{len(self.dialogues):,} dialogues ({shapes or 'none'}), {len(self.unreadable):,} unreadable"]
        lines += [f"  {what}: {n:,}" for what, n in self.notes.items()]
        lines += [f"  {u.where}: {u.reason}" for u in self.unreadable[:5]]
        lines += [f"  … and {len(self.unreadable) - 5:,} more"] * (len(self.unreadable) > 5)
        if self.aside:
            lines.append(f"  set aside in {common.show(self.aside)}")
        return "\n".join(lines)


class Stream:
    """The dialogues of a file, read anew each time they are asked for; memory grows with the faults only.

    After a whole pass: unreadable, notes, formats, aside, as in `Loaded`. Two dialogues may have the same id.
    """

    def __init__(self, path, format=None, source="", license="", aside=True, encoding=None, columns=None):
        if format is not None and format not in FORMATS:
            raise CourseError(f"There is no format {format!r}. Choose one of {', '.join(FORMATS)}, or None.")
        self.path, self.format, self.source, self.license = Path(path), format, source, license
        self.encoding, self.columns = encoding, columns
        self._aside = self.path.with_name(self.path.name + ".unreadable.jsonl") if aside is True else aside
        self._forget()

    def _forget(self):
        self.unreadable, self.notes, self.formats, self.aside = [], Counter(), Counter(), None

    def __iter__(self) -> Iterator[Dialogue]:
        self._forget()
        with ExitStack() as stack:
            for record in _records(self):
                try:
                    if record.fault:
                        raise ValueError(record.fault)
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
        self.unreadable.append(Unreadable(record.number, record.where, reason))
        if not self._aside:
            return
        if self.aside is None:
            temporary = stack.enter_context(common.atomic_write(self._aside))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self.aside = Path(self._aside)
        raw = record.raw if record.fault else record.value
        line = {"where": record.where, "reason": reason, "record": raw}
        try:
            self._file.write(json.dumps(line, default=str) + "\n")  # ASCII: the fault may be in the characters
        except RecursionError:
            self._file.write(json.dumps(line | {"record": "nested too deeply"}) + "\n")


def _printable(text):
    return str(text).encode(errors="backslashreplace").decode()[:300]


def stream(
    path,
    format: str | None = None,
    source: str = "",
    license: str = "",
    aside=True,
    encoding: str | None = None,
    user=(),
    assistant=(),
    system: str = "",
    messages: str = "",
) -> Stream:
    """Read the dialogues of a file as a `Stream`: loop over it as often as you like, whatever the file's size.

    path    : Baize JSON, ShareGPT, Alpaca, Dolly, prompts with completions, `messages` or our own corpus; as JSON list,
              JSON lines, CSV or parquet, gzipped or not.
    format  : one of formats.FORMATS ("baize" "sharegpt" …), or None: told record by record.
    source, license : written into every dialogue; without them what the file says, else the file's name and "".
    aside   : where records that can't be read go, with the reason; True: `<name>.unreadable.jsonl` beside the file;
              False: nowhere.
    encoding : of the text; None: UTF-8, UTF-16 or UTF-32, told by its first bytes.
    user, assistant, system : for any other format: the name of the column with the questions (or several, joined by an
              empty line), that with the answers; messages : or that of a column with whole conversations.
    Raises CourseError, in the loop, for a file that can't be read at all.
    """
    several = [(names,) if isinstance(names, str) else tuple(names) for names in (user, assistant)]
    columns = Columns(*several, system, messages)
    if bool(several[0]) != bool(several[1]) or (several[0] and messages):
        raise CourseError("Name the columns of both user and assistant, or that of whole messages, and nothing else.")
    return Stream(path, format, source, license, aside, encoding, columns if columns.names() else None)


@uncollected()
def load(path, *arguments, **options) -> Loaded:
    """Read all dialogues of a file, and what could not be read: print it to see both. Arguments as for `stream`.

    An id met again gets its place in the file added, so that ids are different; notes count these.
    """
    reader = stream(path, *arguments, **options)
    dialogues, seen = [], set()
    for place, dialogue in enumerate(reader, start=1):
        if dialogue.id in seen:
            dialogue.id = f"{dialogue.id}#{place}"
            reader.notes["an id met again, its place in the file added"] += 1
        seen.add(dialogue.id)
        dialogues.append(dialogue)
    return Loaded(dialogues, reader.unreadable, dict(reader.notes), dict(reader.formats), reader.aside)


# ---- where a record begins and ends


_NUL = "a NUL character in it: the file is damaged"


class Record(NamedTuple):
    """One record of a file. number: from 1; where: "line 7"; value: its content; or a fault and the raw text."""

    number: int
    where: str
    value: Any = None
    fault: str = ""
    raw: str = ""


_FOREIGN = {  # by the first bytes
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it",
    b"SQLi": "a database: export it as JSON lines",
    b"ARRO": "an Arrow file: save it as parquet",
}
_KEY = r'"((?:[^"\\]|\\.)*)"\s*:\s*'
_SCALAR = r'(?:"(?:[^"\\]|\\.)*"|[\w.+-]+)\s*,\s*'
_OPENING = re.compile(
    rf"\{{\s*{_KEY}(?:{_SCALAR}{_KEY})?"
)  # of an object: its first key, its second where that is near
_WRAPPED_LIST = re.compile(rf"\s*[{{,]\s*(?:{_KEY}{_SCALAR})*{_KEY}\[(?=\s*[{{\[])")
_CONVERSATION = re.compile(r'\[\s*\{\s*"(?:role|from)"\s*:')
_json = json.JSONDecoder(strict=False).raw_decode  # line ends inside a text do no harm


def _records(stream):
    """Every `Record` of a file, in order. A record that is not JSON comes as a fault, and the next ones still come.

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
            raise CourseError(f"{common.show(path)} is {_FOREIGN[head]}.")
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
    lines = [line for line in text.split("\n") if line.strip()]
    whole = [value for line in lines[:20] for value in [_line_value(line)] if isinstance(value, dict | list)]

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
        return _table(file, stream, lines[0])
    raise CourseError(
        f"{common.show(stream.path)}: neither JSON nor CSV nor parquet, not a list of dialogues. Save it "
        "as a JSON list, as one dialogue a line, or as parquet; or name columns: load(path, user=…, assistant=…)."
    )


def _line_value(line):
    """The value of a whole line of JSON, or None. A comma behind it does no harm."""
    line = line.strip("\ufeff \t\r\n,")
    try:
        value, end = _json(line)
    except (ValueError, RecursionError):
        return None
    return value if end == len(line) else None


def _lines(file, known):
    """JSON lines; empty ones are skipped. A line that holds several records, in a list or an object, gives them all."""
    for number, line in enumerate(file, start=1):
        text = line.strip("\ufeff \t\r\n,")
        if not text:
            continue
        where = f"line {number}"
        try:
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError) as error:
            yield Record(number, where, fault=_not_json(error), raw=line.rstrip("\n"))
            continue
        if "\0" in text:
            yield Record(number, where, fault=_NUL, raw=line.rstrip("\n"))
        elif (parts := _parts(value, known)) is None:
            yield Record(number, where, value)
        else:
            yield from (Record(number + i, f"{where}, entry {i + 1}", part) for i, part in enumerate(parts))


def _parts(value, known):
    """The records inside of a value that is none itself: a list of them, or an object that holds some."""
    if isinstance(value, list):
        return value if any(map(known, value)) else None
    if isinstance(value, dict) and not known(value):
        lists = [inner for inner in value.values() if isinstance(inner, list) and any(map(known, inner))]
        if lists or any(map(known, value.values())):
            return [part for inner in lists for part in inner] or list(value.values())
    return None


def _table(file, stream, head):
    """Rows of a CSV file with a header."""
    csv.field_size_limit(2**31 - 1)
    delimiter = max(",\t;|", key=head.count)
    rows = csv.DictReader(file, delimiter=delimiter)
    try:
        for number, row in enumerate(rows, start=1):
            yield Record(number, f"line {rows.line_num}", {str(k).strip("\ufeff"): v for k, v in row.items()})
    except csv.Error as error:
        raise CourseError(f"{common.show(stream.path)}:{rows.line_num}: {error}. Mend that line.") from error


def _rows(path):
    """Rows of a parquet file as dicts, without the fields that are null."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:  # one text that is none would cost its thousand neighbours
                    rows = [_row(batch.slice(i, 1)) for i in range(len(batch))]
                for row in rows:
                    number += 1
                    fault = "" if isinstance(row, dict) else row
                    value = None if fault else {k: v for k, v in row.items() if v is not None}
                    yield Record(number, f"row {number}", value, fault)
    except pyarrow.ArrowException as error:
        raise CourseError(f"{common.show(path)}: a damaged parquet file ({error}). Fetch it again.") from error


def _row(batch):
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return f"not text ({error.reason})"


def _entries(window, known, notes, end):
    """JSON values one behind the other, decoded out of a window that moves over the file. end: "]" inside a list."""
    number = 0
    while True:
        if (mark := window.mark()) and mark != end:
            where = f"entry {number + 1} (line {window.line})"
            value, fault, raw = window.take(known)
            parts = None if fault else _parts(value, known)
            for part in [value] if parts is None else parts:
                number += 1
                yield Record(number, where, part, fault, raw)
            continue
        if not mark:
            if end and not window.closed:
                notes["the list has no end: the file was cut short"] += 1
            return
        window.advance(window.at + 1)
        if another := window.match(_WRAPPED_LIST):  # the next list of the object
            window.advance(another.end())
        elif window.mark() in ("[", "{"):
            notes["behind the end of a list, read as well"] += 1
            window.advance(window.at + (window.mark() == "["))
        else:
            if rest := window.text[window.at :].strip("}] \t\r\n,;"):
                notes[f"text behind the end of the list left out: {rest[:40]!r}"] += 1
            return


class _Window:
    """The part of a text file that is being decoded. at: where in `text`; line: which line of the file that is."""

    def __init__(self, file, start):
        self.file, self.text, self.at, self.line, self.ended, self.closed = file, "", 0, 1, False, False
        self._openings = {}  # {first key of an entry: {second keys}}: how entries of this file begin
        while len(self.text) < start:
            self._more()
        self.advance(start)

    def mark(self):
        """The next character that is neither white space nor a comma; "" at the end of the file."""
        pattern = re.compile("[\\s,\ufeff]*")
        while True:
            self.advance(pattern.match(self.text, self.at).end())
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._more()

    def match(self, pattern):
        """The match of a pattern here, in the next thousand characters."""
        while len(self.text) < self.at + 1000 and not self.ended:
            self._more()
        return pattern.match(self.text, self.at)

    def take(self, known):
        """(value, "", "") of the entry that begins here, or (None, fault, its raw text); moves behind it."""
        while True:
            try:
                value, end = _json(self.text, self.at)
            except (ValueError, RecursionError) as error:
                # The fault may only be that the window ends here.
                edge = getattr(error, "pos", 0) >= len(self.text) - _ESCAPE or str(error).startswith("Unterminated")
                if self.ended or not edge:
                    return None, _not_json(error, where=False), self._skip(known)
            else:
                if end < len(self.text) or self.ended:  # at the edge, 12 may be the beginning of 123
                    raw = self.text[self.at : end]
                    self._remember_opening()
                    self.advance(end)
                    return (None, _NUL, raw) if "\0" in raw else (value, "", "")
            self._more()

    def advance(self, to):
        """Move to `to`, counting lines."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def _more(self):
        """Drop what is done and read on; twice as much each time, so that a long entry is not decoded over and over."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))
        self.ended = not chunk
        self.text, self.at = self.text[self.at :] + chunk, 0

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
                value, _ = _json(self.text, brace.start())
            except (ValueError, RecursionError):
                continue
            if known(value):
                return brace.start()
        return 0


def _not_json(error, where=True):
    if isinstance(error, RecursionError):
        return "not JSON (nested too deeply)"
    if not isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error})"
    return f"not JSON ({error.msg} at character {error.pos + 1})" if where else f"not JSON ({error.msg})"
