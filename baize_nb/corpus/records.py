"""The records of a file, one after another: JSON lines, a JSON list, parquet. Memory does not grow with the file.

Knows: where a record begins and ends, and how to find the next one behind a fault. Does not know: what it means.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from .. import common
from ..common import CourseError

_CHUNK = 1 << 18  # characters
_ROWS = 1000
_NEXT_ENTRY = re.compile(r"\}\s*,\s*(?=\{)")
_ESCAPE = 12  # characters of the longest thing in JSON that is only valid as a whole, a pair of \uXXXX


class Record(NamedTuple):
    """One record of a file. number: from 1; where: "line 7"; value: its content; or a fault and the raw text."""

    number: int
    where: str
    value: Any = None
    fault: str = ""
    raw: str = ""


def records(path):
    """Every `Record` of a file, in order. A record that is not JSON comes as a fault, and the next ones still come.

    Bytes that are not UTF-8 come as lone surrogates, so that a fault costs one record and not the file.
    Raises CourseError for a file that can't be opened or is neither JSON lines, nor a JSON list, nor parquet.
    """
    path = Path(path)
    try:
        yield from _reader(path)(path)
    except OSError as error:
        raise CourseError(f"Cannot read {common.show(path)} ({error.strerror or error}).") from error


def _reader(path):
    """Which of the readers below fits: told by the first bytes, and by the name where these leave it open."""
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return _rows
    with _open(path) as file:
        head = file.readline(_CHUNK).strip()
        while not head and (line := file.readline(_CHUNK)):
            head = line.strip()
    if path.suffix == ".jsonl" or not head:
        return _lines
    if head.startswith("["):
        return _entries
    if head.startswith("{") and (len(head) >= _CHUNK - 1 or _is_object(head)):
        return _lines
    kind = "one object" if head.startswith("{") else "neither JSON nor parquet"
    raise CourseError(
        f"{common.show(path)}: {kind}, not a list of dialogues. Save it as UTF-8, as a JSON list of dialogues, "
        "as one dialogue a line, or as parquet."
    )


def _is_object(line):
    try:
        return bool(json.loads(line))
    except ValueError:
        return False


def _open(path):
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _lines(path):
    """JSON lines; empty ones are skipped."""
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield Record(number, f"line {number}", json.loads(line))
                except (ValueError, RecursionError) as error:
                    yield Record(number, f"line {number}", fault=_not_json(error), raw=line.rstrip("\n"))


def _rows(path):
    """Rows of a parquet file as dicts, without the fields that are null."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(_ROWS) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield Record(number, f"row {number}", {k: v for k, v in row.items() if v is not None})
    except pyarrow.ArrowException as error:
        raise CourseError(f"{common.show(path)}: a damaged parquet file ({error}). Fetch it again.") from error


def _entries(path):
    """Entries of a JSON list, decoded one by one out of a window that moves over the file."""
    with _open(path) as file:
        window = _Window(file)
        window.mark("")
        window.advance(window.at + 1)
        number = 0
        while (mark := window.mark(",")) and mark != "]":
            number, where = number + 1, f"entry {number + 1} (line {window.line})"
            value, fault, raw = window.take()
            yield Record(number, where, value, fault, raw)
        if not mark:
            yield Record(number + 1, f"line {window.line}", fault="the list has no end: the file was cut short")


class _Window:
    """The part of a text file that is being decoded. at: where in `text`; line: which line of the file that is."""

    def __init__(self, file):
        self.file, self.text, self.at, self.line, self.ended = file, "", 0, 1, False
        self._decode = json.JSONDecoder().raw_decode

    def mark(self, skipped):
        """The next character that is neither white space nor one of `skipped`; "" at the end of the file."""
        pattern = re.compile(rf"[\s{skipped}]*")
        while True:
            self.advance(pattern.match(self.text, self.at).end())
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._more()

    def take(self):
        """(value, "", "") of the entry that begins here, or (None, fault, its raw text); moves behind it."""
        while True:
            try:
                value, end = self._decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                if self.ended or not self._may_go_on(error):
                    return None, _not_json(error, where=False), self._skip(getattr(error, "pos", self.at))
            else:
                if end < len(self.text) or self.ended:  # at the edge, 12 may be the beginning of 123
                    self.advance(end)
                    return value, "", ""
            self._more()

    def advance(self, to):
        """Move to `to`, counting lines."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def _more(self):
        """Drop what is done and read on; twice as much each time, so that a long entry is not decoded over and over."""
        chunk = self.file.read(max(_CHUNK, len(self.text) - self.at))
        self.ended = not chunk
        self.text, self.at = self.text[self.at :] + chunk, 0

    def _may_go_on(self, error):
        """Whether the fault may only be that the window ends here."""
        edge = getattr(error, "pos", 0) >= len(self.text) - _ESCAPE
        return edge or str(error).startswith("Unterminated string")

    def _skip(self, fault_at):
        """The raw text of a faulty entry; moves to the next one: behind the next "}," that "{" follows."""
        behind = max(fault_at, self.at) - self.at
        while not (found := _NEXT_ENTRY.search(self.text, self.at + behind)) and not self.ended:
            self._more()
        end = found.start() + 1 if found else len(self.text)
        raw = self.text[self.at : end]
        self.advance(end)
        return raw.strip()


def _not_json(error, where=True):
    if isinstance(error, RecursionError):
        return "not JSON (nested too deeply)"
    if not isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error})"
    return f"not JSON ({error.msg} at character {error.pos + 1})" if where else f"not JSON ({error.msg})"
