"""Rows of every kind of file and data set that seeds can come from.

Knows: .txt, .csv, .jsonl, .parquet, MedQuAD's XML, the hub. Does not know: what a seed is; seeds.py makes those.
A row is (where, {column: value}); `where` is "file:line", for errors. Built in notebook 01.
"""

import csv
import io
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

from . import common
from .common import CourseError

BUNDLED = ("quora", "stackoverflow", "medquad", "alpaca")
COLUMNS = ("text", "question", "title", "instruction", "anchor", "sentence1")  # where a text is looked for, in order
_EXTRA = ("input", "topic", "reference")


def rows(source, column, limit, left_out):
    """(rows, {"source", "license"} of a row that names none) of whatever `seeds.load` accepts.

    left_out : a Counter, to be filled with what was left out, as {"documents without questions": 6}.
    Raises CourseError here, or while the rows are read, where something cannot be.
    """
    if isinstance(source, str) and source.startswith("hub:"):
        return _hub(source.removeprefix("hub:"), column, limit, left_out)
    return _path(source, left_out)


def find_column(where, columns, column):
    """The name, in lower case, of the column that holds the text: `column`, else the first of COLUMNS there is."""
    for candidate in [column.strip().lower()] if column else COLUMNS:
        if candidate in columns:
            return candidate
    asked = repr(column) if column else f"called {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}"
    found = ", ".join(map(repr, columns))
    raise CourseError(f"{where}: there is no column {asked}. Found: {found}. Pass column= with the right one.")


def words(value):
    """`value` as text; "" for None and for the NaN with which pandas marks a gap."""
    gap = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if gap else str(value).strip()


def _path(source, left_out):
    if source in BUNDLED:
        source = common.DATA / "seeds" / f"{source}.jsonl"
    path = Path(source).expanduser()
    default = {"source": path.stem, "license": "unknown"}
    if path.is_dir():
        return _medquad(path, left_out), {"source": "medquad", "license": "CC BY 4.0"}
    if not path.exists():
        known = ", ".join(BUNDLED)
        raise CourseError(f"There is no source or file called {str(source)!r}. Bundled: {known}; or give a path.")
    readers = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise CourseError(f"{common.show(path)}: cannot read {path.suffix or 'it'}. Use {', '.join(readers)}.")
    return readers[path.suffix.lower()](path), default


def _text(path):
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise CourseError(f"Cannot read {common.show(path)} ({error.strerror}). Check that you may open it.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CourseError(f"{common.show(path)}:{line}: this is not UTF-8. Save the file as UTF-8.") from error
    if not text.strip():
        raise CourseError(f"{common.show(path)} is empty. Put at least one question in it.")
    return text


def _lines(path):
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{common.show(path)}:{number}", line


def _txt(path):
    return ((where, {"text": line}) for where, line in _lines(path))


def _jsonl(path):
    for where, line in _lines(path):
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # half an emoji (\ud83d alone) reads but can never be written
        except json.JSONDecodeError as error:
            fault = f"at column {error.colno}: {error.msg}"
            raise CourseError(f"{where}: not JSON ({fault}). Write one JSON object a line.") from error
        except UnicodeEncodeError as error:
            raise CourseError(f"{where}: holds half a character (such as \\ud83d alone). Delete it.") from error
        if not isinstance(row, dict):
            raise CourseError(f'{where}: expected an object such as {{"text": "…"}}, found {line[:40]!r}.')
        yield where, row


def _csv(path):
    text = _text(path)
    header = text.lstrip().split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        for row in reader:
            where = f"{common.show(path)}:{reader.line_num}"
            if None in row:
                raise CourseError(f'{where}: more fields than the header has. Put a text with commas in "quotes".')
            yield where, row
    except csv.Error as error:
        where = f"{common.show(path)}:{reader.line_num}"
        raise CourseError(f"{where}: not CSV ({error}). Check the quotes on this line and the one before.") from error


def _parquet(path):
    import pandas

    try:
        records = pandas.read_parquet(path).to_dict("records")
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise CourseError(f"{common.show(path)}: not a Parquet file that can be read. Write it again.") from error
    return ((f"{common.show(path)}, row {number}", row) for number, row in enumerate(records, start=1))


def _medquad(folder, left_out):
    files = sorted(f for f in folder.rglob("*.xml") if not f.name.startswith("."))
    if not files:
        raise CourseError(f"{common.show(folder)} holds no .xml files. Give one of MedQuAD's folders, or a file.")
    for file in files:
        yield from _medquad_document(file, left_out)


def _medquad_document(file, left_out):
    where = common.show(file)
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        line = getattr(error, "position", (1,))[0]
        raise CourseError(f"{where}:{line}: broken XML ({error}). Fetch this file again or delete it.") from error
    if root.tag not in ("Document", "DiseaseFile"):  # one real file uses the second
        raise CourseError(f"{where}: expected <Document> at the top, found <{root.tag}>. Is this a MedQuAD folder?")
    topic = " ".join((root.findtext("Focus") or "").split())
    pairs = root.findall("QAPairs/QAPair")
    if not pairs:
        left_out["documents without questions"] += 1
    for pair in pairs:
        question = " ".join((pair.findtext("Question") or "").split())
        if not question or (not topic and question.endswith(" ?")):
            left_out["questions about nothing"] += 1
            continue
        answer = re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t]+", " ", pair.findtext("Answer") or ""))
        question = re.sub(r"(\s*\?)+", "?", question)  # "acne ?" and "keratitis? ?"
        yield where, {"text": question, "topic": topic, "reference": answer.strip()}


def _hub(spec, column, limit, left_out):
    name, _, configuration = spec.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CourseError(f"{name!r} is no data set's id. Write hub:namespace/name, as the hub shows it.")
    import datasets

    try:
        data = datasets.load_dataset(name, configuration or None, split="train")
    except Exception as error:  # the library, the hub and the network raise a dozen unrelated kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CourseError(
            f"Could not load {name} from the hub: {reason}. Check the id and the network, or use a bundled source."
        ) from error
    column = find_column(name, [c.lower() for c in data.column_names], column)
    if limit and limit < len(data):
        data = data.shuffle(seed=0).select(range(limit))
    data = data.select_columns([c for c in data.column_names if c.lower() in (column, *_EXTRA)])
    default = {"source": name.split("/")[1], "license": data.info.license or "unknown"}
    return _hub_rows(name, data, column, left_out), default


def _hub_rows(name, data, column, left_out):
    for number, row in enumerate(data, start=1):
        row = {key.lower(): value for key, value in row.items()}
        if words(row[column]):
            yield f"{name}, row {number}", row
        else:  # in someone else's data set there is nothing for the student to mend
            left_out["rows without text"] += 1
