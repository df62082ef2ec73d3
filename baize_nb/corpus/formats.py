"""The same dialogues in the formats of others: Baize's released files, ShareGPT, Alpaca, `messages`, parquet.

Knows: where each format keeps its text. Does not know: files being read, see loading.py; how good the text is.

What comes back when a file written here is read again (`load`): of parquet everything; of ShareGPT id and messages; of
`messages` and Alpaca messages; of Baize seed and messages, these without white space at their ends.
"""

import json
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from .. import common, transcript
from .store import Dialogue

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "ai", "bot", "model", "bing", "bard"), "assistant"),
    "system": "system",
}
_FIELDS = ("seed", "source", "license", "strategy", "model", "usage", "end")
_OURS = {"id", "messages", *_FIELDS}
_ROW_GROUP = 5000


def detect(record):
    """Name of the format that a record's fields are those of, or ""."""
    fields = set(record) if isinstance(record, dict) else ()
    for name, needed in _NEEDED.items():
        if needed.issubset(fields):
            return name
    return ""


def convert(record, name, format=None):
    """(dialogue, notes) from one record of a file. notes: what of the record is not in the dialogue, [str].

    name : the id, where the record has none. format : one of FORMATS, or None: told by its fields.
    Raises ValueError, in plain words, for a record that is no dialogue.
    """
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, not an object with fields")
    dialogue = _ours(record) if format in (None, "messages") else None
    if dialogue:
        return dialogue, []
    format = format or detect(record)
    if not format:
        raise ValueError(f"no format has these fields: {', '.join(map(str, list(record)[:8])) or '(none)'}")
    if missing := sorted(_NEEDED[format] - set(record)):
        raise ValueError(f"no {' and no '.join(missing)}")
    fields, notes = _READERS[format](record)
    if extra := sorted(map(str, set(record) - _KNOWN[format])):
        notes.append(f"fields left out: {', '.join(extra)}")
    given = record.get("id")
    fields["id"] = str(given) if isinstance(given, str | int) and str(given) else name
    dialogue = Dialogue.from_record(fields)
    _be_text(dialogue)
    return dialogue, notes


def _ours(record):
    """The dialogue of a record that has all our fields and no fault, the common case and the fastest; else None."""
    if record.keys() != _OURS:
        return None
    try:
        dialogue = Dialogue.from_record(record)
        _be_text(dialogue)
    except ValueError:
        return None  # the slow way says what is wrong
    return dialogue if all(len(m) == 2 for m in dialogue.messages) else None


def write_baize(dialogues, path):
    """Write a file like those that Baize released, a JSON list of {"topic", "input"}; return its path.

    Markers inside a message are written so that they read as text; see `transcript.render`.
    """
    return _write_list(map(_to_baize, dialogues), path)


def write_sharegpt(dialogues, path):
    """Write {"id", "conversations": [{"from": "human"|"gpt", "value"}]} per dialogue, a JSON list; return its path."""
    return _write_list(map(_to_sharegpt, dialogues), path)


def write_alpaca(dialogues, path):
    """Write {"instruction", "input", "output"} per dialogue, a JSON list; return its path.

    A dialogue of several turns carries its earlier ones as "history": [[question, answer], …].
    """
    return _write_list(map(_to_alpaca, dialogues), path)


def write_messages(dialogues, path):
    """Write {"messages": […]} per line, and nothing else, as the fine-tuning APIs take it; return its path."""
    entries = ({"messages": d.messages} for d in dialogues)
    return common.write_pieces(path, (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def write_parquet(dialogues, path):
    """Write all fields of all dialogues as parquet, in row groups; return its path. `usage` is JSON in a column."""
    import pyarrow as pa
    from pyarrow import parquet

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    kinds = {"messages": pa.list_(message)}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in Dialogue("").to_record()])
    rows = (d.to_record() | {"usage": json.dumps(d.usage, ensure_ascii=False)} for d in dialogues)
    with common.atomic_write(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:
        while group := list(islice(rows, _ROW_GROUP)):
            file.write_table(pa.Table.from_pylist(group, schema))
    return Path(path)


def _from_messages(record):
    messages, end, notes = _exchanges([(m.get("role"), m.get("content"), m) for m in _objects(record["messages"])])
    fields, left_out = _own_fields(record)
    return fields | {"messages": messages} | ({"end": end} if end else {}), notes + left_out


def _own_fields(record):
    """(fields, notes): what a record has of a dialogue's other fields, where they are of the right type."""
    fields, notes = {}, []
    for name in _FIELDS:
        value, kind = record.get(name), dict if name == "usage" else str
        if kind is dict and isinstance(value, str):
            value = _unpacked(value)
        if isinstance(value, kind):
            fields[name] = value
        elif value is not None:
            notes.append(f"field {name!r} left out: a {type(value).__name__}")
    return fields, notes


def _unpacked(text):
    """What JSON in a text says, as `write_parquet` keeps `usage`; the text itself where it is none."""
    with suppress(ValueError):
        return json.loads(text)
    return text


def _from_sharegpt(record):
    said = [
        (m.get("from", m.get("role")), m.get("value", m.get("content")), {}) for m in _objects(record["conversations"])
    ]
    messages, end, notes = _exchanges(said)
    return {"messages": messages, "end": end}, notes


def _from_alpaca(record):
    asked = "\n\n".join(text for text in (record["instruction"], record.get("input")) if text)
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise ValueError("its history is no list of [question, answer]")
    pairs = [*history, (asked, record["output"])]
    said = [(role, text, {}) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    system = [("system", record["system"], {})] if record.get("system") else []
    messages, end, notes = _exchanges(system + said)
    return {"messages": messages, "end": end}, notes


def _from_baize(record):
    if not isinstance(record["input"], str):
        raise ValueError(f"its input is a {type(record['input']).__name__}, not a text")
    parsed = transcript.parse(record["input"])
    if not parsed.kept:
        raise ValueError(f"no exchange between [|Human|] and [|AI|] ({parsed.reason})")
    fields = {"seed": str(record["topic"] or ""), "strategy": "transcript", "end": parsed.reason}
    notes = ["faulty parts of the transcript left out, its whole exchanges kept"] if parsed.reason else []
    return fields | {"messages": parsed.messages}, notes


_READERS = {"messages": _from_messages, "sharegpt": _from_sharegpt, "baize": _from_baize, "alpaca": _from_alpaca}
_NEEDED = {
    "messages": {"messages"},
    "sharegpt": {"conversations"},
    "baize": {"topic", "input"},
    "alpaca": {"instruction", "output"},
}
_KNOWN = {
    "messages": _OURS,
    "sharegpt": {"id", "conversations"},
    "baize": {"id", "topic", "input"},
    "alpaca": {"id", "instruction", "input", "output", "history", "system"},
}
FORMATS = tuple(_READERS)


def _objects(messages):
    if not isinstance(messages, list):
        raise ValueError(f"its messages are a {type(messages).__name__}, not a list")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise ValueError(f"message {i} is a {type(message).__name__}, not an object")
    return messages


def _exchanges(said):
    """(messages, end, notes) from [(who, text, the whole message)]: without system messages at the beginning and
    without a last question that nobody answered; `end` and notes say so."""
    messages, notes = [], []
    for i, (who, text, message) in enumerate(said):
        role = _ROLES.get(str(who).lower())
        if role is None:
            raise ValueError(f"message {i} is from {who!r}")
        if role == "system" and not messages:
            notes.append("a system message left out")
            continue
        if extra := sorted(k for k, v in message.items() if k not in ("role", "content") and v is not None):
            notes.append(f"fields of messages left out: {', '.join(extra)}")
        messages.append({"role": role, "content": text})
    if len(messages) > 1 and messages[-1]["role"] == "user":
        messages.pop()
        notes.append("a last question without an answer left out")
        return messages, "the last human turn has no answer", notes
    return messages, "", notes


def _be_text(dialogue):
    """Raise ValueError where a text can't be written as UTF-8."""
    for text in (dialogue.id, dialogue.seed, *(m["content"] for m in dialogue.messages)):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"not text: {text[error.start : error.start + 1]!a} is no character") from error


def _to_baize(dialogue):
    return {"topic": dialogue.seed, "input": transcript.render(dialogue.messages) + transcript.HUMAN + " "}


def _to_sharegpt(dialogue):
    names = {"user": "human", "assistant": "gpt"}
    said = [{"from": names[m["role"]], "value": m["content"]} for m in dialogue.messages]
    return {"id": dialogue.id, "conversations": said}


def _to_alpaca(dialogue):
    said = [m["content"] for m in dialogue.messages]
    *history, (instruction, output) = zip(said[::2], said[1::2], strict=True)
    entry = {"instruction": instruction, "input": "", "output": output}
    return entry | ({"history": history} if history else {})


def _write_list(entries, path):
    """A JSON list, one entry a line."""
    lines = (json.dumps(entry, ensure_ascii=False) for entry in entries)
    first = next(lines, "")
    return common.write_pieces(path, chain(["[\n", first], (",\n" + line for line in lines), ["\n]\n"]))
