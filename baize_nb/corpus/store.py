"""A corpus on disk: one dialogue a line, read whole or refused by name, written whole or not at all.

Knows: `Dialogue` and its JSON line. Does not know: how a dialogue was made, or whether it is any good.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from .. import common, transcript
from ..common import CourseError
from .memory import uncollected


@dataclass
class Dialogue:
    """One self-chat: what was asked, who talked, and what it cost. One line of corpus.jsonl.

    id       : the seed's id; one dialogue per seed, so it is the dialogue's id too.
    seed     : the seed's text. source, license : the seed's.
    strategy : how the self-chat was made. model : who talked.
    messages : [{"role": "user"|"assistant", "content": str}], roles alternating, user first, assistant last.
    usage    : {"prompt_tokens", "completion_tokens", "requests", …}, tokens of the teacher.
    end      : why it stopped ("max_turns", "no_question", "length", "repeat" …).
    """

    id: str
    seed: str = ""
    source: str = ""
    license: str = ""
    strategy: str = ""
    model: str = ""
    messages: list = field(default_factory=list)
    usage: dict = field(default_factory=dict)
    end: str = ""

    @property
    def turns(self):
        """Number of exchanges: one user message and its answer."""
        return len(self.messages) // 2

    def said_by(self, role):
        """Contents of all messages of "user" or "assistant", in order."""
        return [m["content"] for m in self.messages if m["role"] == role]

    def to_record(self):
        """The dialogue as a dict of its fields, in the order above. Inverse of `from_record`; nothing is copied."""
        return {name: getattr(self, name) for name in _TYPES}

    @classmethod
    def from_record(cls, record):
        """A dialogue from a dict. Raises ValueError, in plain words, for a record that is none.

        Fields that are not named above are ignored, so that a corpus of a later version can be read.
        """
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__}, not an object with fields")
        missing = [name for name in ("id", "messages") if not record.get(name)]
        if missing:
            raise ValueError(f"no {' and no '.join(missing)}")
        dialogue = cls(**{name: record[name] for name in _TYPES if name in record})
        _check(dialogue)
        return dialogue

    def to_json(self):
        """The dialogue as one line of JSON, without the line end. Inverse of `from_json`."""
        return json.dumps(self.to_record(), ensure_ascii=False)

    @classmethod
    def from_json(cls, line):
        """A dialogue from one line of JSON. Raises ValueError, in plain words, for a line that is none."""
        return cls.from_record(json.loads(line))


_TYPES = {f.name: f.type for f in fields(Dialogue)}


def _check(dialogue):
    """Raise ValueError unless every field has its type and the messages are whole exchanges."""
    for name, kind in _TYPES.items():
        value = getattr(dialogue, name)
        if not isinstance(value, kind):
            raise ValueError(f"field {name!r} is a {type(value).__name__}, not a {kind.__name__}")
    for i, message in enumerate(dialogue.messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError(f'message {i} is not {{"role": …, "content": "text"}}')
    transcript.check(dialogue.messages)
    if len(dialogue.messages) % 2:
        raise ValueError("the last user message has no answer")


@uncollected()
def read(path):
    """All dialogues of a corpus.jsonl, in file order. Empty lines are skipped. Built in notebook 03.

    Raises CourseError, naming file and line, for a line that is no dialogue, a torn last line or an id met twice:
    a reader that skips what it cannot read loses data without a word.
    """
    path = Path(path)
    dialogues, seen = [], {}
    for number, line in _lines(path):
        try:
            dialogue = Dialogue.from_json(line)
        except ValueError as error:
            raise CourseError(_fault(path, number, line, error)) from error
        if dialogue.id in seen:
            raise CourseError(
                f"{common.show(path)}:{number}: id {dialogue.id!r} already stands on line {seen[dialogue.id]}. "
                "Keep one of the two lines and read again."
            )
        seen[dialogue.id] = number
        dialogues.append(dialogue)
    return dialogues


def write(dialogues, path):
    """Write a corpus, one dialogue a line, whole or not at all; return its path. Raises CourseError on a full disk.

    dialogues : any iterable; they are written as they come and need not fit into memory.
    """
    return common.write_pieces(path, (d.to_json() + "\n" for d in dialogues))


def _lines(path):
    """(line number from 1, line with its line end) of every line that is not empty."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            yield from ((n, line) for n, line in enumerate(file, start=1) if line.strip())
    except OSError as error:
        raise CourseError(f"Cannot read {common.show(path)} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{common.show(path)} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def _fault(path, number, line, error):
    """What is wrong with line `number`, and what to do about it."""
    if isinstance(error, json.JSONDecodeError) and not line.endswith("\n"):
        return (
            f"{common.show(path)}:{number}: the last line is torn off: its writing was cut short. "
            "Delete that line (the others are whole), or run notebook 02 again, which makes that dialogue anew."
        )
    if isinstance(error, json.JSONDecodeError):
        error = f"not JSON ({error.msg} at character {error.pos + 1})"
    return f"{common.show(path)}:{number}: {error}. Mend or delete that line and read again."
