"""Seeds: the questions from which dialogues grow (Baize, arXiv 2304.01196, section 3); readers, and a fair sample."""

import hashlib
import heapq
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from xml.etree import ElementTree

from . import common
from .common import CourseError
from .records import json_records, table

BUNDLED = ("quora", "stackoverflow", "medquad", "alpaca")
COLUMNS = ("text", "question", "title", "instruction", "anchor", "sentence1", "question1")  # tried in this order


@dataclass(frozen=True, slots=True)
class Seed:
    """One question or task to start a dialogue with."""

    id: str  # unique among all seeds; a dialogue carries it on
    text: str  # never empty
    source: str  # the collection it belongs to; sampling is even over sources
    license: str  # the terms under which `text` may be used
    topic: str = ""
    reference: str = ""  # an answer written by a person


def load(
    source: str | Path,
    *,
    column: str | None = None,
    name: str | None = None,
    license: str | None = None,
    limit: int | None = None,
    encoding: str | None = None,
) -> list[Seed]:
    """Load the seeds of one source, each text once (case and spacing aside); print in one line what is left out.

    source : "quora", "stackoverflow", "medquad" or "alpaca" (bundled, written for this course in the manner of
        the real ones); "hub:<namespace/name>" or "hub:<namespace/name>:<configuration>"; or a path: .txt
        (a seed a line, numbers or bullets before all of them taken off), .csv, .tsv, .json, .jsonl, .parquet,
        a Stack Exchange dump's Posts.xml (titles of questions), or a folder of MedQuAD's XML.
    column : the column that holds the text; without it, the first of `COLUMNS` that is there.
    name, license : of all seeds; without them, what a row says itself, else what the file or data set is called.
    limit : at most this many rows, drawn at random, the same ones each time.
    encoding : of a text file that is neither UTF-8 nor UTF-16.
    A row that can't be used costs no other. Raises CourseError where the whole can't be read, or nothing is left.
    """
    left_out, faults, kept, ids = Counter(), [], {}, {}
    if isinstance(source, str) and source.startswith("hub:"):
        rows, default = _hub(source.removeprefix("hub:"), column, limit)
    else:
        rows, default = _path(source, column, encoding, left_out)
        if limit:  # drawn while they pass: a dump may be larger than the memory
            rng = random.Random(0)
            drawn = heapq.nsmallest(limit, enumerate(rows), key=lambda _: rng.random())
            rows = [row for _, row in sorted(drawn, key=lambda item: item[0])]
    for where, row in rows:
        try:
            seed = _seed(where, row, column, {"source": name, "license": license}, default)
        except CourseError as error:
            faults.append(str(error))
            continue
        key = seed and _fold(seed.text)
        if seed is None:
            left_out["rows without text"] += 1
        elif key not in kept and ids.setdefault(seed.id, where) != where:
            faults.append(f"{where}: the id {seed.id!r} was used at {ids[seed.id]} already. Give each its own.")
        else:
            left_out["repeated texts"] += key in kept
            # Of two the same the first stays, unless only the second has an answer.
            if key not in kept or (seed.reference and not kept[key].reference):
                kept[key] = seed
    label = name or default["source"]
    if not kept:
        raise CourseError((faults or [f"{label} holds no seeds. Give it at least one line with a question."])[0])
    told = [f"{what} ({count:,})" for what, count in left_out.items() if count]
    if faults:
        told.append(f"unreadable ({len(faults):,}), first {faults[0]}")
    if told:
        print(f"{label}: {len(kept):,} seed{'s' * (len(kept) > 1)}; left out: {', '.join(told)}")
    return list(kept.values())


def sample(seeds: Sequence[Seed], n: int, seed: int = 0) -> list[Seed]:
    """Draw `n` seeds, as even over the sources as can be: a source too short gives all it has, the others fill up.

    Like dealing cards: shuffle each source, then take one of each, round after round. So a larger sample begins with
    the smaller one (same `seed`). The order of `seeds` does not matter.
    """
    if not 0 <= n <= len(seeds):
        raise CourseError(f"You asked for {n} seeds of {len(seeds)}. Ask for at most {len(seeds)}, or load more.")
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


def write(seeds: Iterable[Seed], path: str | Path, sources: Iterable = (), **facts) -> Path:
    """Write `seeds` to `path`, one a line, and a manifest with sources and facts beside it; return the path."""
    twice = [i for i, count in Counter(s.id for s in seeds).items() if count > 1]
    if twice:
        raise CourseError(f"{len(twice)} ids occur twice, {twice[0]!r} first. Load each source once.")
    lines = (json.dumps({k: v for k, v in asdict(s).items() if v}, ensure_ascii=False) for s in seeds)
    common.write_text(path, "".join(line + "\n" for line in lines))
    counts = dict(sorted(Counter(s.source for s in seeds).items()))
    common.write_manifest(path, "01_seed_sampling", sources, seeds=len(seeds), per_source=counts, **facts)
    return Path(path)


def read(path: str | Path) -> list[Seed]:
    """Read the seeds that `write` wrote, in the same order."""
    return load(Path(path))


def _seed(where, row, column, given, default):
    """The seed of a row, None where it has no text. given, default: {"source", "license"} of the caller, the file."""
    if isinstance(row, str):
        raise CourseError(f"{where}: {row}")
    row = {str(k).strip().lower(): v for k, v in row.items()}
    column = _find_column(where, row, column)
    text = row[column]
    if not _words(text):
        return None
    if not isinstance(text, str):
        raise CourseError(f"{where}: {column!r} holds no text, but {text!r:.40}. Write a text there.")
    text = text.strip()
    if column == "instruction" and _words(row.get("input")):  # Alpaca keeps the material of a task apart
        text += "\n\n" + _words(row["input"])
    source = given["source"] or _words(row.get("source")) or default["source"]
    license = given["license"] or _words(row.get("license")) or default["license"]
    # An id made of the text stays the same when a file grows, so that a resumed run knows what it has.
    id = f"{source}-{hashlib.sha256(_fold(text).encode(errors='replace')).hexdigest()[:10]}"
    if _words(row.get("source")) and not given["source"]:
        id = _words(row.get("id")) or id
    seed = Seed(id, text, source, license, _words(row.get("topic")), _words(row.get("reference")))
    if re.search("[\ud800-\udfff]", seed.id + seed.text + seed.license + seed.topic + seed.reference):
        raise CourseError(f"{where}: holds half a character (such as \\ud83d alone). Delete it.")
    return seed


def _fold(text):
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _words(value):
    """`value` as text; "" for None and for the NaN with which pandas marks a gap."""
    gap = value is None or (isinstance(value, float) and value != value)
    return "" if gap else str(value).strip()


def _find_column(where, columns, column):
    for candidate in [column.strip().lower()] if column else COLUMNS:
        if candidate in columns:
            return candidate
    asked = repr(column) if column else f"called {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}"
    found = ", ".join(f"{c!r:.60}" for c in list(columns)[:12])
    more = ", or write the columns' names in that line" if where.endswith("header") else ""
    raise CourseError(f"{where}: there is no column {asked}. Found: {found}. Pass column= with the right one{more}.")


# Readers. A row is (where, {column: value}), or (where, what is wrong with it); `where` is "file:line".


def _path(source, column, encoding, left_out):
    """(rows, {"source", "license"} of a row that names none) of a bundled source, a file or a folder."""
    try:
        path = common.DATA / "seeds" / f"{source}.jsonl" if source in BUNDLED else Path(source).expanduser()
        path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # the others: a home that nobody has, a name with \0
        known = ", ".join(BUNDLED)
        raise CourseError(f"There is no source or file called {str(source)!r}. Bundled: {known}.") from error
    shown, kind = common.show(path), path.suffix.lower()
    default = {"source": path.stem, "license": "unknown"}
    if path.is_dir() or kind == ".xml":
        files = sorted(f for f in path.rglob("*.xml") if not f.name.startswith(".")) if path.is_dir() else [path]
        if not files:
            raise CourseError(f"{shown} holds no .xml files. Give one of MedQuAD's folders, or a file.")
        if dump := [f for f in files if f.name.lower().endswith("posts.xml")]:
            return _posts(dump[0], left_out), {"source": "stackexchange", "license": "CC BY-SA"}
        return _medquad(files, left_out), {"source": "medquad", "license": "CC BY 4.0"}
    if kind == ".parquet":
        return _parquet(path), default
    readers = {".txt": _txt, ".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": _json}
    if kind not in readers:
        raise CourseError(f"{shown}: cannot read {kind or 'it'}. Use {', '.join(readers)}, .parquet or .xml.")
    text = common.read_text(path, encoding)
    if not text.strip():
        raise CourseError(f"{shown} is empty. Put at least one question in it.")
    return readers[kind](shown, text, column), default


def _txt(shown, text, column):
    lines = [(f"{shown}:{number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    mark = re.compile(r"\s*(?:\d+[.)]|[-*•])\s+")
    listed = all(mark.match(line) for _, line in lines)
    return ((where, {"text": mark.sub("", line, count=1) if listed else line}) for where, line in lines)


def _json(shown, text, column):
    """Rows of a list, {"data": [ … ]} too, or of lines with an object each: the content tells, not the file's name."""
    wanted = {column.strip().lower()} if column else set(COLUMNS)

    def is_row(row):
        return isinstance(row, dict) and any(str(key).strip().lower() in wanted for key in row)

    for record in json_records(text, is_row):
        row = record.value
        if record.reason:
            row = f"{record.reason}. Correct it or take it out."
        elif not isinstance(row, dict):
            row = f'not an object such as {{"text": "…"}}, but {row!r:.40}. Remove it.'
        yield f"{shown}:{record.line}", row


def _csv(shown, text, column):
    names = None
    for number, fields in table(text):
        where = f"{shown}:{number}"
        if isinstance(fields, str):
            yield where, fields
            if names is None:
                return
        elif names is None:
            names = [field.strip().lower() for field in fields]
            wanted = _find_column(f"{where}, the header", names, column)
            if names.count(wanted) > 1:
                raise CourseError(f"{where}: two columns are called {wanted!r}. Rename one of them.")
        elif any(fields[len(names) :]):
            yield where, 'more fields than the header has. Put a text with commas in "quotes".'
        elif any(field.strip() for field in fields):
            yield where, {wanted: "", **dict(zip(names, fields, strict=False))}


def _parquet(path):
    import pandas

    try:
        records = pandas.read_parquet(path).to_dict("records")
    except Exception as error:  # pyarrow raises a dozen unrelated kinds
        raise CourseError(f"{common.show(path)}: not a Parquet file that can be read. Write it again.") from error
    return ((f"{common.show(path)}, row {number}", row) for number, row in enumerate(records, start=1))


_BROKEN_XML = (ElementTree.ParseError, OSError, ValueError, LookupError)  # the last two: unknown encodings


def _broken(where, error):
    line = getattr(error, "position", (1,))[0]
    return f"{where}:{line}", f"broken XML ({error}). What stands before is read; fetch the file again for the rest."


def _medquad(files, left_out):
    """Questions of MedQuAD's documents. They are written in three schemas, of which the last renames all tags."""
    for file in files:
        where, tags = common.show(file), {}
        try:
            root = ElementTree.parse(file).getroot()
        except _BROKEN_XML as error:
            yield _broken(where, error)
            continue
        if root.tag not in ("Document", "DiseaseFile", "doc"):
            yield where, f"expected <Document> at the top, found <{root.tag}>. Is this a MedQuAD folder?"
            continue
        for element in root.iter():
            tags.setdefault(element.tag.lower(), []).append(element)
        focus = tags.get("focus") or tags.get("doctitle-focus") or [ElementTree.Element("focus")]
        topic = " ".join("".join(focus[0].itertext()).split())
        pairs = tags.get("qapair") or tags.get("pair") or []
        left_out["documents without questions"] += not pairs
        for pair in pairs:
            texts = {child.tag.lower(): "".join(child.itertext()) for child in pair}
            question = " ".join(texts.get("question", "").split())
            if not question or (not topic and question.endswith(" ?")):
                left_out["questions about nothing"] += 1
                continue
            answer = re.sub(r"\s*\n\s*", "\n", re.sub(r"[ \t]+", " ", texts.get("answer", "")))
            question = re.sub(r"(\s*\?)+", "?", question)  # "acne ?" and "keratitis? ?"
            yield where, {"text": question, "topic": topic, "reference": answer.strip()}


def _posts(file, left_out):
    """Titles of the questions in a Stack Exchange dump, read piece by piece: it may have a hundred gigabytes."""
    where = common.show(file)
    try:
        pieces = ElementTree.iterparse(file, events=("start", "end"))
        _, root = next(pieces)
        for event, row in pieces:
            if event == "start" or row is root:
                continue
            if row.get("PostTypeId") == "1":
                topic = ", ".join(re.findall(r"[^<>|]+", row.get("Tags", "")))
                yield f"{where}, post {row.get('Id')}", {"text": row.get("Title"), "topic": topic}
            else:
                left_out["posts that are no questions"] += 1
            root.clear()  # what was read is not kept
    except _BROKEN_XML as error:
        yield _broken(where, error)


def _hub(spec, column, limit):
    """As `_path`, of a data set "namespace/name" or "namespace/name:configuration"."""
    name, _, configuration = spec.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CourseError(f"{name!r} is no data set's id. Write hub:namespace/name, as the hub shows it.")
    import datasets

    try:
        data = datasets.load_dataset(name, configuration or None, split="train")
    except Exception as error:  # the library, the hub and the network raise a dozen unrelated kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        remedy = "Check the id and the network, or use a bundled source."
        raise CourseError(f"Could not load {name} from the hub: {reason}. {remedy}") from error
    used = (_find_column(name, [c.lower() for c in data.column_names], column), "input", "topic", "reference")
    data = data.select_columns([c for c in data.column_names if c.lower() in used])
    if limit and limit < len(data):
        data = data.shuffle(seed=0).select(range(limit))
    default = {"source": name.split("/")[1], "license": data.info.license or "unknown"}
    return ((f"{name}, row {number}", row) for number, row in enumerate(data, start=1)), default
