"""Other people's corpora: read in whatever shape they have, with nothing skipped in silence. Built in notebook 03.

Knows: what was read, what could not be, and where that is put. Does not know: the formats, see formats.py.
Our own corpus.jsonl has a stricter reader, `read` in store.py.
"""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from .. import common
from ..common import CourseError
from .formats import FORMATS, convert, detect
from .memory import uncollected
from .records import records


class Unreadable(NamedTuple):
    """A record that is no dialogue. number: from 1; where: "line 7"; reason: in plain words."""

    number: int
    where: str
    reason: str


class Loaded(NamedTuple):
    """What `load` gives back.

    dialogues  : [Dialogue]. unreadable : [Unreadable]; `aside` is the file that has their text, or None.
    notes      : {what of some dialogues was left out: dialogues}. formats : {format: dialogues}.
    """

    dialogues: list
    unreadable: list
    notes: dict
    formats: dict
    aside: Path | None

    def __str__(self):
        shapes = ", ".join(f"{n:,} {name}" for name, n in self.formats.items())
        lines = [f"{len(self.dialogues):,} dialogues ({shapes or 'none'}), {len(self.unreadable):,} unreadable"]
        lines += [f"  {what}: {n:,}" for what, n in self.notes.items()]
        lines += [f"  {u.where}: {u.reason}" for u in self.unreadable[:5]]
        lines += [f"  … and {len(self.unreadable) - 5:,} more"] * (len(self.unreadable) > 5)
        if self.aside:
            lines.append(f"  set aside in {common.show(self.aside)}")
        return "\n".join(lines)


class Stream:
    """The dialogues of a file, read anew each time they are asked for; memory grows with the faults only.

    After a whole pass: unreadable, notes, formats, aside, as in `Loaded`. Two dialogues may have the same id.
    """

    def __init__(self, path, format=None, source="", license="", aside=True):
        if format is not None and format not in FORMATS:
            raise CourseError(f"There is no format {format!r}. Choose one of {', '.join(FORMATS)}, or None.")
        self.path, self.format, self.source, self.license = Path(path), format, source, license
        self._aside = self.path.with_name(self.path.name + ".unreadable.jsonl") if aside is True else aside
        self._forget()

    def _forget(self):
        self.unreadable, self.notes, self.formats, self.aside = [], Counter(), Counter(), None

    def __iter__(self):
        self._forget()
        with ExitStack() as stack:
            for record in records(self.path):
                try:
                    yield self._dialogue(record)
                except ValueError as error:
                    self._set_aside(record, str(error), stack)

    def _dialogue(self, record):
        """The dialogue of a record, its source and licence filled in. Raises ValueError with the reason."""
        if record.fault:
            raise ValueError(record.fault)
        dialogue, notes = convert(record.value, f"{self.path.stem}-{record.number:06d}", self.format)
        dialogue.source = self.source or dialogue.source or self.path.stem
        dialogue.license = self.license or dialogue.license
        if notes:
            self.notes.update(set(notes))
        self.formats[self.format or detect(record.value)] += 1
        return dialogue

    def _set_aside(self, record, reason, stack):
        """Remember what is wrong, and write the record with it into the file beside."""
        self.unreadable.append(Unreadable(record.number, record.where, reason))
        if not self._aside:
            return
        if self.aside is None:
            temporary = stack.enter_context(common.atomic_write(self._aside))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
            self.aside = Path(self._aside)
        raw = record.raw if record.fault else record.value
        line = {"where": record.where, "reason": reason, "record": raw}
        self._file.write(json.dumps(line, default=str) + "\n")  # ASCII: the fault may be in the characters


def stream(path, format=None, source="", license="", aside=True):
    """The dialogues of a file as a `Stream`: loop over it as often as you like, whatever the file's size.

    path    : Baize JSON, ShareGPT, Alpaca, `messages` or our own corpus; as JSON list, JSON lines or parquet.
    format  : "baize" "sharegpt" "alpaca" "messages", or None: told record by record.
    source, license : written into every dialogue; without them what the file says, else the file's name and "".
    aside   : where records that can't be read go, with the reason; True: `<name>.unreadable.jsonl` beside the file;
              False: nowhere.
    Raises CourseError, in the loop, for a file that can't be read at all.
    """
    return Stream(path, format, source, license, aside)


@uncollected()
def load(path, format=None, source="", license="", aside=True):
    """All dialogues of a file, and what could not be read: print it to see both. Arguments as for `stream`.

    An id met again gets its place in the file added, so that ids are different; notes count these.
    """
    reader = Stream(path, format, source, license, aside)
    dialogues, seen = [], set()
    for place, dialogue in enumerate(reader, start=1):
        if dialogue.id in seen:
            dialogue.id = f"{dialogue.id}#{place}"
            reader.notes["an id met again, its place in the file added"] += 1
        seen.add(dialogue.id)
        dialogues.append(dialogue)
    return Loaded(dialogues, reader.unreadable, dict(reader.notes), dict(reader.formats), reader.aside)


def read_baize(path, source="", license="", skip_faulty=False):
    """Dialogues of a released Baize file: a JSON list of {"topic", "input"}, `input` a text with [|Human|] and [|AI|].

    A faulty transcript keeps its whole exchanges; `end` then says what was wrong with it ("" otherwise).
    Raises CourseError for a file of another shape and for entries without one exchange, unless `skip_faulty`: these
    are then set aside in a file beside it.
    """
    loaded = load(path, "baize", source, license, aside=skip_faulty)
    if loaded.unreadable and not skip_faulty:
        bad = [str(u.number) for u in loaded.unreadable]
        first = ", ".join(bad[:5]) + (" …" if len(bad) > 5 else "")
        raise CourseError(
            f"{common.show(path)}: {len(bad)} of {len(loaded.dialogues) + len(bad)} entries hold no exchange "
            f"between [|Human|] and [|AI|] (entry {first}; the first: {loaded.unreadable[0].reason}). "
            "Mend them, or pass skip_faulty=True to set them aside."
        )
    return loaded.dialogues


def read_messages(path, source="", license=""):
    """Dialogues of a plain JSONL file with {"messages": […]} per line, as the fine-tuning APIs take it.

    A leading system message is left out: the Baize format has its own. Ids are the file's name and the line.
    Raises CourseError, naming the line, for one that does not alternate user and assistant.
    """
    loaded = load(path, "messages", source, license, aside=False)
    if loaded.unreadable:
        first = loaded.unreadable[0]
        raise CourseError(
            f"{common.show(path)}:{first.number}: not a line of messages that alternate user and assistant "
            f"({first.reason}). Mend or delete that line and read again, or use corpus.load to set it aside."
        )
    return loaded.dialogues
