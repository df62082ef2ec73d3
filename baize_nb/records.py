"""Records of other people's files: JSON values and rows of tables. A fault costs one record, and is told."""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# What stands between records: also the names under which an object holds lists of them.
_BETWEEN = re.compile(r'(?:[\s,\]}\ufeff\x1e]|"(?:[^"\\]|\\.)*"\s*:)*')
_decode = json.JSONDecoder(strict=False).raw_decode  # not strict: a line end inside a text does no harm


class Record(NamedTuple):
    """What stands in one place of a file: a value, or the reason why there is none and the raw text."""

    line: int
    value: Any = None
    reason: str = ""
    raw: Any = ""


def json_records(text: str, known: Callable, line: int = 1) -> Iterator[Record]:
    """Yield the records of a JSON text: single values, one behind the other, in lists, in objects around them.

    known : tells whether a value is a record: what is none may hold some. line : the number of the first line.
    """
    at, open_list = 0, False
    while True:
        start = _BETWEEN.match(text, at).end()
        line += text.count("\n", at, start)
        if start == len(text):
            break
        at = start
        if text[at] == "[" and not _is_talk(text, at, known):
            open_list = True
            at += 1
            continue
        value, end, error = _decoded(text, at)
        if error is None:
            for part in parts_of(value, known):
                yield Record(line, part)
        else:
            end = _next_record(text, at, known)
            # A fault behind the end of the next record: this is an object around it.
            open_list = _decoded(text, end)[1] <= getattr(error, "pos", 0)
            if not open_list:
                yield Record(line, None, _why(error), text[at:end].strip())
        line += text.count("\n", at, end)
        at = end
    if open_list and "]" not in text[at:]:
        yield Record(line, None, "the list has no end: the file was cut short. Fetch it again.")


def parts_of(value, known: Callable) -> list:
    """Find the records inside of a value that is none itself, a list or an object that holds some; else the value."""
    if isinstance(value, list) and any(map(known, value)):
        return value
    if isinstance(value, dict) and not known(value):
        lists = [inner for inner in value.values() if isinstance(inner, list) and any(map(known, inner))]
        if lists:
            return [part for inner in lists for part in inner]
        if any(map(known, value.values())):
            return list(value.values())
    return [value]


def _decoded(text, at):
    """(the JSON value that begins here, where it ends, None); (None, infinity, the error) where there is none."""
    try:
        return *_decode(text, at), None
    except (ValueError, RecursionError) as error:
        return None, math.inf, error


def _is_talk(text, at, known):
    """Whether the list that begins here is one conversation: a record, and no list of records."""
    begin = re.compile(r"\[\s*(?=\{)").match(text, at)
    first = _decoded(text, begin.end())[0] if begin else None
    return isinstance(first, dict) and not known(first) and bool({"role", "from"} & first.keys())


def _next_record(text, at, known):
    """Where the next record begins: an object that opens as the faulty one does, or that is whole and known.

    It is sought from the first characters on, since a quotation mark too many or too few shifts all others.
    """
    opening = re.compile(r'\{\s*"[^"\n]*"').match(text, at)
    for brace in re.compile(r'(?<!:)(?<!: )\{(?=\s*")').finditer(text, at + 1):
        begin = brace.start()
        if (opening and text.startswith(opening[0], begin)) or known(_decoded(text, begin)[0]):
            return begin
    return len(text)


def _why(error):
    if isinstance(error, RecursionError):
        return "not JSON (nested too deeply)"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, column {error.colno})"
    return f"not JSON ({error})"


def table(text: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield (line number, fields, or what is wrong) of a table, header first, whatever stands between its columns."""
    csv.field_size_limit(2**31 - 1)  # the library's own limit is 131,072 characters
    lines = text.split("\n")
    sep = re.fullmatch(r'\ufeff?"?sep=(.)"?', lines[0].strip(" \r"), re.IGNORECASE)  # Excel's own line
    at = 1 if sep else 0
    while at < len(lines) - 1 and not lines[at].strip():
        at += 1
    bare = re.sub(r'"[^"]*"', "", lines[at])
    mark = sep[1] if sep else max(",;\t|", key=bare.count)
    if mark not in bare:
        mark = "\x1f"  # one column: its commas are part of the text
    while at < len(lines):
        fields, used = _fields(lines, at, mark)
        if lines[at].strip():
            yield at + 1, fields or "a quotation mark is opened and not closed. Close it, or write it twice."
        at += used


def _fields(lines, at, mark):
    """(fields of the record that begins with line number `at`, how many lines it has); None: a quote stays open."""
    record = lines[at]
    if '"' not in record:
        return record.split(mark), 1
    for used in range(1, 1000):
        try:
            return next(csv.reader([record], delimiter=mark, strict=True)), used
        except csv.Error as error:
            if "unexpected end" not in str(error) or at + used == len(lines):
                break
        record += "\n" + lines[at + used]
    if used > 1:
        return None, 1
    # The quote is no end of a field, but escaped by a backslash, or a mark like any other: "Lake" is what?
    escaped = {"quoting": csv.QUOTE_NONE}
    if '\\"' in record:
        escaped = {"escapechar": "\\", "doublequote": False}
    try:
        return next(csv.reader([record], delimiter=mark, strict=True, **escaped)), 1
    except csv.Error:
        return None, 1
