"""Other people's formats: a record of a file becomes a dialogue, and what of it does not is told. ShareGPT and parquet
are written too; read again (`load`), parquet brings back everything, ShareGPT ids and messages.
"""

import html
import json
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from .. import common, transcript
from .dialogue import TYPES, Dialogue

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "instruction"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "ai", "bot", "model", "bing", "bard", "output"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_OURS = TYPES.keys()


class Columns(NamedTuple):
    """Which fields of a record hold the talk: `messages`, or `user` and `assistant`, each of one field or more."""

    user: tuple = ()
    assistant: tuple = ()
    system: str = ""
    messages: str = ""

    def names(self) -> set[str]:
        """Name all fields that are read."""
        return {*self.user, *self.assistant, self.system, self.messages} - {""}


# What each format needs, in the order in which a record is tried, and what is read of it.
FORMATS = {
    "messages": Columns(messages="messages"),
    "sharegpt": Columns(messages="conversations"),
    "baize": Columns(messages="input"),
    "alpaca": Columns(("instruction", "input"), ("output",), "system"),
    "conversation": Columns(messages="conversation"),
    "dolly": Columns(("instruction", "context"), ("response",)),
    "prompt": Columns(("prompt",), ("completion",)),
    "prompt-response": Columns(("prompt",), ("response",)),
}
_NEEDED = {name: {*c.user[:1], *c.assistant, c.messages} - {""} for name, c in FORMATS.items()} | {
    "baize": {"topic", "input"}
}
_ALSO_READ = {"messages": set(_OURS), "baize": {"topic"}, "alpaca": {"history"}}


def detect(record) -> str:
    """Name the format that a record's fields are those of, or ""."""
    fields = record.keys() if isinstance(record, dict) else set()
    return next((name for name, needed in _NEEDED.items() if needed <= fields), "")


def convert(record, name: str, format: str | None = None, columns: Columns | None = None) -> tuple[Dialogue, list[str]]:
    """Make (dialogue, notes) of one record of a file. notes: what of the record is not in the dialogue.

    name : the id, where the record has none. format : one of FORMATS, or None: told by its fields. columns : the fields
    to read, for a format of your own. A list of messages is a record too.
    Raises ValueError, in plain words, for a record that is no dialogue.
    """
    if isinstance(record, list) and record and _is_message(record[0]):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, not an object with fields")
    if columns is None and format in (None, "messages") and record.keys() == _OURS:
        with suppress(ValueError):  # the common case and the fastest; the slow way says what is wrong
            dialogue = Dialogue.from_record(record)
            _be_text(dialogue)
            if all(len(m) == 2 for m in dialogue.messages):
                return dialogue, []
    format = "" if columns else format or detect(record)
    if not format and not columns:
        names = ", ".join(map(str, list(record)[:8])) or "(none)"
        remedy = 'Name them: load(path, user="…", assistant="…"), or messages="…"'
        raise ValueError(f"no format has these fields: {names}. {remedy}")
    columns = columns or FORMATS[format]
    if missing := sorted((_NEEDED[format] if format else columns.names() - {columns.system}) - record.keys()):
        raise ValueError(f"no {' and no '.join(missing)}")
    notes, fields = [], {}
    if format == "messages":
        fields = _own_fields(record, notes)
    if format == "baize":
        fields = {"seed": _text(record["topic"], "its topic", notes), "strategy": "transcript"}
    fields["messages"], end = _exchanges(_said(record, columns, notes, of_sharegpt=format == "sharegpt"), notes)
    if end or format == "baize":
        fields["end"] = end
    if extra := sorted(map(str, record.keys() - columns.names() - _ALSO_READ.get(format, set()) - {"id"})):
        notes.append(f"fields left out: {', '.join(extra[:8])}" + (" …" if len(extra) > 8 else ""))
    given = record.get("id")
    fields["id"] = str(given) if isinstance(given, str | int) and str(given) else name
    dialogue = Dialogue.from_record(fields)
    _be_text(dialogue)
    return dialogue, notes


def _own_fields(record, notes):
    """What a record has of a dialogue's other fields, where they are of the right type."""
    fields = {}
    for name in _OURS - {"id", "messages"}:
        value = record.get(name)
        if name == "usage" and isinstance(value, str):
            with suppress(ValueError):  # JSON in a text, as `write_parquet` keeps it
                value = json.loads(value)
        if isinstance(value, TYPES[name]):
            fields[name] = value
        elif value is not None:
            notes.append(f"field {name!r} left out: a {type(value).__name__}")
    return fields


def _said(record, columns, notes, of_sharegpt=False):
    """[(who, text)] of a record, in order."""
    if columns.messages:
        said = _turns(record[columns.messages], f"its {columns.messages}", notes)
        return [(who, _without_html(text, notes)) for who, text in said] if of_sharegpt else said
    said = []
    if columns.system and record.get(columns.system):
        said.append(("system", "…"))  # is left out anyway
    if columns == FORMATS["alpaca"] and not _empty(history := record.get("history")):
        if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
            raise ValueError("its history is no list of [question, answer]")
        said += _turns(history, "its history", notes)
    for role, names in (("user", columns.user), ("assistant", columns.assistant)):
        if isinstance(record[names[0]], list):
            said += _turns(record[names[0]], f"its {names[0]}", notes)
        else:
            texts = [_text(record.get(name), f"its {name}", notes) for name in names]
            said.append((role, "\n\n".join(filter(None, texts))))
    return said


def _turns(value, what, notes):
    """[(who, text)] of a list of messages in any of the shapes they are kept in, or of a transcript in one text."""
    if isinstance(value, str):
        with suppress(ValueError):
            if isinstance(listed := json.loads(value), list):
                return _turns(listed, what, notes)
        parsed = transcript.parse(value)
        if parsed.reason and parsed.messages:
            notes.append("faulty parts of the transcript left out, its whole exchanges kept")
        return [(m["role"], m["content"]) for m in parsed.messages] + [("", parsed.reason)]
    if not isinstance(value, list):
        raise ValueError(f"{what} is a {type(value).__name__}, not a list")
    said, left_out = [], set()
    for i, message in enumerate(value):
        alternating = ("user", "assistant")[i % 2]
        if isinstance(message, str) or message is None:
            said.append((alternating, message or ""))
        elif isinstance(message, list) and len(message) == 2:
            said += [
                (role, _text(text, what, notes)) for role, text in zip(("user", "assistant"), message, strict=True)
            ]
        elif not isinstance(message, dict):
            raise ValueError(f"message {i} of {what} is a {type(message).__name__}, not an object")
        elif who := next((message[key] for key in ("role", "from", "speaker") if message.get(key)), None):
            text = next((message[key] for key in ("content", "value", "text") if key in message), None)
            said.append((who, _text(text, f"message {i}", notes, parts=True)))
            used = {"role", "from", "speaker", "content", "value", "text"}
            left_out |= {str(key) for key, inner in message.items() if key not in used and inner is not None}
        else:  # {"human": …, "assistant": …}
            pairs = [(key, _text(text, f"message {i}", notes)) for key, text in message.items() if _role(key)]
            said += pairs or [("nobody", "")]
    if left_out:
        notes.append(f"fields of messages left out: {', '.join(sorted(left_out)[:8])}")
    return said


def _is_message(value):
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _role(who):
    return _ROLES.get(str(who).strip().lower())


def _empty(value):
    return value in (None, False, "", [], {}) or (isinstance(value, float) and math.isnan(value))


def _text(value, what, notes, parts=False):
    """A field as text: numbers as they are written, nothing as "". parts : whether it may be a list of parts."""
    if isinstance(value, str):
        return value
    if _empty(value):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        notes.append("a number taken as text")
        return json.dumps(value)
    if parts and isinstance(value, dict):
        value = value["parts"] if isinstance(value.get("parts"), list) else [value]
    if parts and isinstance(value, list):
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
            if asked is not None:
                notes.append("a question without an answer left out")
            asked = text
        elif asked is None:
            notes.append("an answer without a question left out")
        else:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
            asked = None
    if asked is not None:
        notes.append("a last question without an answer left out")
        end = "the last human turn has no answer"
    if not messages:
        why = "; ".join(dict.fromkeys(notes)) or end
        raise ValueError("no question with an answer" + (f" ({why})" if why else ""))
    return messages, end


_BLOCKS = {"p", "br", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "td", "th"}
_WHOLLY_HTML = re.compile(
    r"\s*<(?:div|p|ul|ol|pre|h[1-6]|table)\b[^<>]*>.*</(?:div|p|ul|ol|pre|h[1-6]|table)>\s*", re.DOTALL
)
_MARKDOWN = (
    (r"<pre>\s*([\w+#-]*)\s*<code>", r"\n\n```\1\n"),
    (r"\s*</code>\s*</pre>", "\n```\n\n"),
    (r"</?code>", "`"),
    (r"</?(?:strong|b)>", "**"),
    (r"</?(?:em|i)>", "*"),
    (r"\s*<li>\s*(?:<p>)?", "\n- "),
    (r"<h([1-6])>", r"\n\n# "),
    (r"</t[dh]>\s*<t[dh]>", " | "),
    (r"</li>", ""),
    (r"<(?:br|tr)>", "\n"),
    (r"</?[a-z][a-z0-9]*>", "\n\n"),
    (r"[ \t]*\n(?:[ \t]*\n)+", "\n\n"),
)


def _without_html(text, notes):
    """A message that is HTML as a whole, as browser extensions saved them, as Markdown; any other as it is."""
    if not _WHOLLY_HTML.fullmatch(text):
        return text
    import nh3

    notes.append("HTML made text")
    tags = _BLOCKS | {"strong", "b", "em", "i", "code"}
    text = nh3.clean(text, tags=tags, attributes={}, clean_content_tags={"button", "script", "style"}, link_rel=None)
    for pattern, replacement in _MARKDOWN:
        text = re.sub(pattern, replacement, text)
    return html.unescape(text).strip()


def _be_text(dialogue):
    """Raise ValueError where a text can't be written as UTF-8."""
    for text in (*dialogue.to_record().values(), *(m["content"] for m in dialogue.messages)):
        if isinstance(text, dict) and text:
            text = json.dumps(text, ensure_ascii=False)
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                character = text[error.start]
                if "\udc80" <= character <= "\udcff":  # a byte that was no UTF-8, see loading.py
                    byte = character.encode(errors="surrogateescape")
                    raise ValueError(
                        f"not UTF-8: a byte {byte!r}, in cp1252 {byte.decode('cp1252', 'replace')!r}. Save the file as "
                        'UTF-8, or say what it is: load(path, encoding="cp1252")'
                    ) from error
                raise ValueError(f"not text: {character!a} is half a character") from error


def write_sharegpt(dialogues: Iterable[Dialogue], path) -> Path:
    """Write {"id", "conversations": [{"from": "human"|"gpt", "value"}]} per dialogue, a JSON list; return its path."""
    names = {"user": "human", "assistant": "gpt"}
    entries = (
        {"id": d.id, "conversations": [{"from": names[m["role"]], "value": m["content"]} for m in d.messages]}
        for d in dialogues
    )
    lines = (json.dumps(entry, ensure_ascii=False) for entry in entries)
    first = next(lines, "")
    return common.write_pieces(path, chain(["[\n", first], (",\n" + line for line in lines), ["\n]\n"]))


def write_parquet(dialogues: Iterable[Dialogue], path) -> Path:
    """Write all fields of all dialogues as parquet, in row groups; return its path. `usage` is JSON in a column."""
    import pyarrow as pa
    from pyarrow import parquet

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([(name, pa.list_(message) if name == "messages" else pa.string()) for name in TYPES])
    rows = (d.to_record() | {"usage": json.dumps(d.usage, ensure_ascii=False)} for d in dialogues)
    with common.atomic_write(path) as temporary, parquet.ParquetWriter(temporary, schema) as file:
        while group := list(islice(rows, 5000)):
            file.write_table(pa.Table.from_pylist(group, schema))
    return Path(path)
