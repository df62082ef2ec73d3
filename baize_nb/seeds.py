"""Seeds: the questions from which dialogues grow. Where they come from, and how a few are drawn from many.

Source of the idea: Baize (arXiv 2304.01196), section 3.
"""

import csv
import hashlib
import io
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from xml.etree import ElementTree

from . import common
from .common import CourseError

BUNDLED = ("quora", "stackoverflow", "medquad", "alpaca")
COLUMNS = ("text", "question", "title", "instruction", "anchor", "sentence1")  # where a text is looked for, in order


@dataclass(frozen=True, slots=True)
class Seed:
    """One question or task to start a dialogue with.

    id        : unique among all seeds; a dialogue carries it on.
    text      : the question itself, never empty.
    source    : the collection it belongs to; sampling is even over sources.
    license   : the terms under which `text` may be used.
    topic     : what it is about, "" where unknown.
    reference : an answer written by a person, "" where there is none.
    """

    id: str
    text: str
    source: str
    license: str
    topic: str = ""
    reference: str = ""


def load(
    source: str | Path,
    *,
    column: str | None = None,
    name: str | None = None,
    license: str | None = None,
    limit: int | None = None,
) -> list[Seed]:
    """Load the seeds of one source, each text once (case and spacing aside); print what is left out, in one line.

    source  : "quora", "stackoverflow", "medquad" or "alpaca" (bundled, written for this course in the manner of
              the real ones); "hub:<namespace/name>" or "hub:<namespace/name>:<configuration>"; or a path: .txt
              (a seed a line), .csv, .jsonl, .parquet, or a folder of MedQuAD's XML.
    column  : the column that holds the text; without it, the first of `COLUMNS` that is there.
    name    : what to call the source; without it, a row's own "source", else the file's or data set's name.
    license : the terms; without it, a row's own "license", else the data set's, else "unknown".
    limit   : for the hub, at most this many rows, drawn at random, the same ones each time.
    Raises CourseError naming file and line where something cannot be read.
    """
    left_out = Counter()
    if isinstance(source, str) and source.startswith("hub:"):
        rows, default = _hub(source.removeprefix("hub:"), column, limit, left_out)
    else:
        rows, default = _path(source, left_out)
    kept = {}  # key of a text: (where, seed)
    for where, row in rows:
        seed = _seed(where, row, column, {"source": name, "license": license}, default)
        key = _key(seed.text)
        if key in kept:
            left_out["repeated texts"] += 1
        # Of two the same the first stays, unless only the second has an answer.
        if key not in kept or (seed.reference and not kept[key][1].reference):
            kept[key] = where, seed
    first = {}
    for where, seed in kept.values():
        if seed.id in first:
            raise CourseError(f"{where}: the id {seed.id!r} was used at {first[seed.id]} already. Give each its own.")
        first[seed.id] = where
    label = name or default["source"]
    if left_out:
        print(f"{label}, left out: " + ", ".join(f"{what} ({count})" for what, count in left_out.items()))
    if not kept:
        raise CourseError(f"{label} holds no seeds. Give it at least one line with a question.")
    return [seed for _, seed in kept.values()]


def sample(seeds: Sequence[Seed], n: int, seed: int = 0) -> list[Seed]:
    """Draw `n` seeds, as even over the sources as can be: a source too short gives all it has, the others fill up.

    Like dealing cards: shuffle each source, then take one of each, round after round. So every beginning of the
    result is even too, and a larger sample begins with the smaller one (same `seed`). The order of `seeds` does
    not matter. Raises CourseError where there are fewer than `n`.
    """
    if not 0 <= n <= len(seeds):
        raise CourseError(
            f"You asked for {n} seeds of {len(seeds)}. Ask for a number from 0 to {len(seeds)}, or load more sources."
        )
    rng = random.Random(seed)
    groups = {}
    for item in sorted(seeds, key=lambda s: (s.source, s.id, s.text)):
        groups.setdefault(item.source, []).append(item)
    for group in groups.values():
        rng.shuffle(group)
    sampled = []
    for of_each in zip_longest(*groups.values()):
        of_each = [item for item in of_each if item is not None]
        rng.shuffle(of_each)
        sampled += of_each
    return sampled[:n]


def write(
    seeds: Iterable[Seed], path: str | Path, made_by: str = "01_seed_sampling", sources: Iterable = (), **facts
) -> Path:
    """Write `seeds` to `path`, one JSON object a line, and its manifest beside it. Returns the path.

    sources and facts go to `common.write_manifest`. Raises CourseError where two seeds share an id.
    """
    twice = [i for i, count in Counter(s.id for s in seeds).items() if count > 1]
    if twice:
        raise CourseError(f"{len(twice)} ids occur twice, {twice[0]!r} first. Load each source once.")
    lines = (json.dumps({k: v for k, v in asdict(s).items() if v}, ensure_ascii=False) for s in seeds)
    common.write_text(path, "".join(line + "\n" for line in lines))
    counts = dict(sorted(Counter(s.source for s in seeds).items()))
    common.write_manifest(path, made_by, sources, seeds=len(seeds), per_source=counts, **facts)
    return Path(path)


def read(path: str | Path) -> list[Seed]:
    """Read the seeds that `write` wrote, in the same order."""
    return load(Path(path))


def _seed(where, row, column, given, default):
    """The seed of a row. given, default: {"source", "license"} that the caller names, and of a row that names none."""
    row = {str(k).strip().lower(): v for k, v in row.items()}
    column = _find_column(where, row, column)
    text = row[column]
    if not isinstance(text, str) or not text.strip():
        raise CourseError(f"{where}: {column!r} holds no text. Fill it in or delete the line.")
    text = text.strip()
    if column == "instruction" and _words(row.get("input")):  # Alpaca keeps the material of a task apart
        text += "\n\n" + _words(row["input"])
    source = given["source"] or _words(row.get("source")) or default["source"]
    own = "" if given["source"] or not _words(row.get("source")) else _words(row.get("id"))
    return Seed(
        # An id made of the text stays the same when a file grows, so that a resumed run knows what it has.
        id=own or f"{source}-{hashlib.sha256(_key(text).encode()).hexdigest()[:10]}",
        text=text,
        source=source,
        license=given["license"] or _words(row.get("license")) or default["license"],
        topic=_words(row.get("topic")),
        reference=_words(row.get("reference")),
    )


def _key(text):
    """What two texts have in common that count as the same."""
    return " ".join(text.casefold().split())


def _words(value):
    """`value` as text; "" for None and for the NaN with which pandas marks a gap."""
    gap = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if gap else str(value).strip()


def _find_column(where, columns, column):
    """The name, in lower case, of the column that holds the text: `column`, else the first of COLUMNS there is."""
    for candidate in [column.strip().lower()] if column else COLUMNS:
        if candidate in columns:
            return candidate
    asked = repr(column) if column else f"called {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}"
    found = ", ".join(map(repr, columns))
    raise CourseError(f"{where}: there is no column {asked}. Found: {found}. Pass column= with the right one.")


# Readers. A row is (where, {column: value}); `where` is "file:line", for errors. What is left out is counted.


def _path(source, left_out):
    """(rows, {"source", "license"} of a row that names none) of a bundled source, a file or a folder."""
    path = common.DATA / "seeds" / f"{source}.jsonl" if source in BUNDLED else Path(source).expanduser()
    if path.is_dir():
        return _medquad(path, left_out), {"source": "medquad", "license": "CC BY 4.0"}
    if not path.exists():
        known = ", ".join(BUNDLED)
        raise CourseError(f"There is no source or file called {str(source)!r}. Bundled: {known}; or give a path.")
    readers = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise CourseError(f"{common.show(path)}: cannot read {path.suffix or 'it'}. Use {', '.join(readers)}.")
    return readers[path.suffix.lower()](path), {"source": path.stem, "license": "unknown"}


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


def _txt(path):
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{common.show(path)}:{number}", {"text": line}


def _jsonl(path):
    for where, row in _txt(path):
        line = row["text"]
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
        where = common.show(file)
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # the last two: unknown encodings
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
    """As `_path`, of a data set "namespace/name" or "namespace/name:configuration"."""
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
    column = _find_column(name, [c.lower() for c in data.column_names], column)
    if limit and limit < len(data):
        data = data.shuffle(seed=0).select(range(limit))
    used = (column, "input", "topic", "reference")
    data = data.select_columns([c for c in data.column_names if c.lower() in used])
    default = {"source": name.split("/")[1], "license": data.info.license or "unknown"}
    return _hub_rows(name, data, column, left_out), default


def _hub_rows(name, data, column, left_out):
    for number, row in enumerate(data, start=1):
        row = {key.lower(): value for key, value in row.items()}
        if _words(row[column]):
            yield f"{name}, row {number}", row
        else:  # in someone else's data set there is nothing for the student to mend
            left_out["rows without text"] += 1
