"""A dialogue, and a corpus of them on disk: one a line, read whole or refused by name, written whole or not at all."""

import gc
import json
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from .. import common, transcript


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
    def turns(self) -> int:
        """Number of exchanges: one user message and its answer."""
        return len(self.messages) // 2

    def said_by(self, role: str) -> list[str]:
        """List the contents of all messages of "user" or "assistant", in order."""
        return [m["content"] for m in self.messages if m["role"] == role]

    def to_record(self) -> dict:
        """Return the fields as a dict, in the order above. Inverse of `from_record`; nothing is copied."""
        return {name: getattr(self, name) for name in TYPES}

    @classmethod
    def from_record(cls, record: dict) -> "Dialogue":
        """Make a dialogue from a dict, other fields ignored. Raises ValueError, in plain words, where it is none."""
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__}, not an object with fields")
        if missing := [name for name in ("id", "messages") if not record.get(name)]:
            raise ValueError(f"no {' and no '.join(missing)}")
        dialogue = cls(**{name: record[name] for name in TYPES if name in record})
        for name, kind in TYPES.items():
            if not isinstance(value := getattr(dialogue, name), kind):
                raise ValueError(f"field {name!r} is a {type(value).__name__}, not a {kind.__name__}")
        for i, message in enumerate(dialogue.messages):
            if not isinstance(message, dict) or not isinstance(message.get("content"), str):
                raise ValueError(f'message {i} is not {{"role": …, "content": "text"}}')
        transcript.check(dialogue.messages)
        if len(dialogue.messages) % 2:
            raise ValueError("the last user message has no answer")
        return dialogue

    def to_json(self) -> str:
        """Return the dialogue as one line of JSON, without the line end. Inverse of `from_json`."""
        return json.dumps(self.to_record(), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Dialogue":
        """Make a dialogue from one line of JSON. Raises ValueError where it is none."""
        return cls.from_record(json.loads(line))


TYPES = {f.name: f.type for f in fields(Dialogue)}


@contextmanager
def uncollected():
    """Switch the garbage collector off: with a million messages in memory, its rounds take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@uncollected()
def read(path) -> list[Dialogue]:
    """Read all dialogues of a corpus.jsonl. Raises CourseError that names a line with a fault or an id met twice."""
    seen = set()

    def make(record):
        dialogue = Dialogue.from_record(record)
        if dialogue.id in seen:
            raise ValueError(f"its id {dialogue.id!r} stands on an earlier line already")
        seen.add(dialogue.id)
        return dialogue

    return list(common.read_jsonl(path, make, "dialogue"))


def write(dialogues: Iterable[Dialogue], path) -> Path:
    """Write a corpus as dialogues come, one a line, whole or not at all; return its path."""
    return common.write_pieces(path, (d.to_json() + "\n" for d in dialogues))
