"""Other people's formats: a record of a file becomes a dialogue, and what of it does not is told."""

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
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "ai", "bot", "model", "bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}


class Columns(NamedTuple):
    """Which fields of a record hold the talk: `messages`, or `user` and `assistant`, each of one field or more."""

    user: tuple = ()
    assistant: tuple = ()
    messages: str = ""

    def needed(self) -> set[str]:
        """Name the fields without which nothing can be read: of several with a question, the first."""
        return {*self.user[:1], *self.assistant, self.messages} - {""}


FORMATS = {  # in the order in which a record is tried
    "messages": Columns(messages="messages"),
    "sharegpt": Columns(messages="conversations"),
    "conversation": Columns(messages="conversation"),
    "baize": Columns(assistant=("topic",), messages="input"),  # its topic is no answer, but has to be there
    "alpaca": Columns(("instruction", "input"), ("output",)),
    "dolly": Columns(("instruction", "context"), ("response",)),
    "prompt": Columns(("prompt",), ("completion",)),
}


def detect(record) -> str:
    """Name the format that a record's fields are those of, or ""."""
    fields = record.keys() if isinstance(record, dict) else set()
    return next((name for name, columns in FORMATS.items() if columns.needed() <= fields), "")


def convert(record, name: str, format: str | None = None, columns: Columns | None = None) -> tuple[Dialogue, list[str]]:
    """Make (dialogue, notes) of one record of a file. notes: what of the record is not in the dialogue.

    name : the id, where the record has none. format : one of FORMATS, or None: told by its fields. columns : the fields
    to read, for a format of your own. A list of messages is a record too.
    Raises ValueError, in plain words, for a record that is no dialogue.
    """
    if isinstance(record, list) and record and isinstance(record[0], dict) and not detect(record[0]):
        record = {"messages": record}
    if not isinstance(record, dict):
        raise ValueError(f"a {type(record).__name__}, not an object with fields")
    if record.keys() == TYPES.keys() and columns is None and format in (None, "messages"):
        with suppress(ValueError):  # the common case and the fastest; the slow way says what is wrong
            dialogue = _be_text(Dialogue.from_record(record))
            if all(len(m) == 2 for m in dialogue.messages):
                return dialogue, []
    format = "" if columns else format or detect(record)
    columns = columns or FORMATS.get(format)
    if columns is None:
        names = ", ".join(map(str, list(record)[:8])) or "(none)"
        remedy = 'Name them: load(path, user="…", assistant="…"), or messages="…"'
        raise ValueError(f"no format has these fields: {names}. {remedy}")
    if missing := sorted(columns.needed() - record.keys()):
        raise ValueError(f"no {' and no '.join(missing)}")
    notes, fields = [], {"strategy": "transcript", "seed": record["topic"]} if format == "baize" else {}
    used = {"id", "history", "system", *columns.user, *columns.assistant, columns.messages}
    if format == "messages":
        used |= TYPES.keys()
        fields = {key: record[key] for key in TYPES.keys() - {"messages"} if record.get(key) is not None}
        if isinstance(fields.get("usage"), str):
            with suppress(ValueError):  # JSON in a text, as `write_parquet` keeps it
                fields["usage"] = json.loads(fields["usage"])
    for key in [key for key, value in fields.items() if not isinstance(value, TYPES[key])]:
        notes += [f"field {key!r} left out: a {type(fields.pop(key)).__name__}"] if key != "id" else []
    fields["messages"], end = _exchanges(_said(record, format, columns, notes), notes)
    fields |= {"end": end} if end or format == "baize" else {}
    if extra := sorted(map(str, record.keys() - used)):
        notes.append(f"fields left out: {', '.join(extra[:8])}")
    given = record.get("id")
    fields["id"] = str(given) if isinstance(given, str | int) and str(given) else name
    return _be_text(Dialogue.from_record(fields)), notes


def _said(record, format, columns, notes):
    """[(who, text)] of a record, in order."""
    if columns.messages:
        said = _turns(record[columns.messages], f"its {columns.messages}", notes)
        notes += [f"fields left out: {key}" for key in ("system", "history") if not _empty(record.get(key))]
        return [(who, _without_html(text, notes)) for who, text in said] if format == "sharegpt" else said
    said = [("system", "…")] if record.get("system") else []  # is left out anyway
    if not _empty(history := record.get("history")):
        if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
            raise ValueError("its history is no list of [question, answer]")
        said += _turns(history, "its history", notes)
    for role, names in (("user", columns.user), ("assistant", columns.assistant)):
        if isinstance(record[names[0]], list) and all(isinstance(turn, dict) for turn in record[names[0]]):
            said += _turns(record[names[0]], f"its {names[0]}", notes)
        else:
            texts = (_text(record.get(name), f"its {name}", notes) for name in names)
            said.append((role, "\n\n".join(filter(None, texts))))
    return said


def _turns(value, what, notes):
    """[(who, text)] of a list of messages in any of the shapes they are kept in, or of a transcript in one text."""
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", "[["):  # JSON in a column of a table
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, str):
        parsed = transcript.parse(value)
        if parsed.reason and parsed.messages:
            notes.append("faulty parts of the transcript left out, its whole exchanges kept")
        return [(m["role"], m["content"]) for m in parsed.messages] + [("", parsed.reason)]
    if not isinstance(value, list):
        raise ValueError(f"{what} is a {type(value).__name__}, not a list")
    said, used = [], {"role", "from", "content", "value", "text"}
    named = all(isinstance(turn, list) and len(turn) == 2 and _role(turn[0]) for turn in value)  # ["Human", "Hello!"]
    for i, message in enumerate(value):
        where = f"message {i} of {what}"
        if isinstance(message, str) or message is None:
            said.append((("user", "assistant")[i % 2], message or ""))
        elif isinstance(message, list) and len(message) == 2:
            pair = [message] if named else zip(("user", "assistant"), message, strict=True)
            said += [(role, _text(text, where, notes)) for role, text in pair]
        elif not isinstance(message, dict):
            raise ValueError(f"{where} is a {type(message).__name__}, not an object")
        elif who := message.get("role") or message.get("from"):
            text = next((message[key] for key in ("content", "value", "text") if message.get(key) is not None), None)
            said.append((who, _text(text, where, notes, parts=True)))
            if extra := sorted(str(key) for key in message.keys() - used if message[key] is not None):
                notes.append(f"fields of messages left out: {', '.join(extra[:8])}")
        else:  # {"human": …, "assistant": …}
            said += [(key, _text(message[key], where, notes)) for key in message if _role(key)] or [("nobody", "")]
    return said


def _role(who):
    return _ROLES.get(str(who).strip().lower())


def _empty(value):
    return value in (None, False, "", [], {}) or (isinstance(value, float) and math.isnan(value))


def _text(value, what, notes, parts=False):
    """A field as text: numbers as they are written, nothing as "". parts : whether it may be a list of parts."""
    if isinstance(value, str) or _empty(value):
        return value if isinstance(value, str) else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        notes.append("a number taken as text")
        return json.dumps(value)
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
            notes += ["a question without an answer left out"] if asked else []
            asked = text
        elif asked:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
            asked = None
        else:
            notes.append("an answer without a question left out")
    if asked:
        notes.append("a last question without an answer left out")
        end = "the last human turn has no answer"
    if not messages:
        why = "; ".join(dict.fromkeys(notes)) or end
        raise ValueError("no question with an answer" + (f" ({why})" if why else ""))
    return messages, end


_TAGS = {"p", "br", "pre", "code", "ul", "ol", "li", "h1", "h2", "h3", "h4", "tr", "td", "th", "b", "strong", "i", "em"}
_MARKDOWN = (  # of what nh3 leaves
    (r"<pre>\s*([\w+#-]*)\s*<code>", r"\n\n```\1\n"),
    (r"\s*</code>\s*</pre>", "\n```\n\n"),
    (r"</?code>", "`"),
    (r"</?(?:strong|b)>", "**"),
    (r"</?(?:em|i)>", "*"),
    (r"\s*<li>\s*(?:<p>)?", "\n- "),
    (r"</li>", ""),
    (r"</?\w+>", "\n\n"),
    (r"\s*\n\s*\n", "\n\n"),
)


def _without_html(text, notes):
    """A message that is HTML as a whole, as browser extensions saved them, as Markdown; any other as it is."""
    if not re.fullmatch(r"\s*<(?:div|p|ul|ol|pre|h[1-6]|table)\b.*>\s*", text, re.DOTALL):
        return text
    import nh3

    notes.append("HTML made text")
    text = nh3.clean(text, tags=_TAGS, attributes={}, clean_content_tags={"button", "script", "style"})
    for pattern, replacement in _MARKDOWN:
        text = re.sub(pattern, replacement, text)
    return html.unescape(text).strip()


def _be_text(dialogue):
    """The dialogue. Raises ValueError where a text of it can't be written as UTF-8."""
    usage = json.dumps(dialogue.usage, ensure_ascii=False) if dialogue.usage else ""
    for text in (usage, *dialogue.to_record().values(), *(m["content"] for m in dialogue.messages)):
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = text[error.start]
                if not "\udc80" <= half <= "\udcff":
                    raise ValueError(f"not text: {half!a} is half a character, or a byte of no character") from error
                byte = half.encode(errors="surrogateescape")  # that was no UTF-8, see loading.py
                raise ValueError(
                    f"not UTF-8: a byte {byte!r}, in cp1252 {byte.decode('cp1252', 'replace')!r}. Save the file as "
                    'UTF-8, or say what it is: load(path, encoding="cp1252")'
                ) from error
    return dialogue


def write_sharegpt(dialogues: Iterable[Dialogue], path) -> Path:
    """Write a JSON list of {"id", "conversations": [{"from": "human"|"gpt", "value"}]}; return its path."""
    names = {"user": "human", "assistant": "gpt"}
    said = ((d.id, [{"from": names[m["role"]], "value": m["content"]} for m in d.messages]) for d in dialogues)
    lines = (json.dumps({"id": name, "conversations": talk}, ensure_ascii=False) for name, talk in said)
    return common.write_pieces(path, chain(["[\n", next(lines, "")], (",\n" + line for line in lines), ["\n]\n"]))


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
