"""The same dialogues in the formats of others: Baize's released files, ShareGPT, plain `messages` lines.

Knows: where each format keeps its text. Does not know: how good the text is; clean an import like anything else.
"""

import json
from pathlib import Path

from .. import artifacts, transcript
from ..errors import CourseError
from .store import Dialogue


def read_baize(path, source="", license="", skip_faulty=False):
    """Dialogues of a released Baize file: a JSON list of {"topic", "input"}, `input` a text with [|Human|] and [|AI|].

    A transcript that breaks off keeps its whole exchanges; `end` then says where it broke ("" otherwise).
    Raises CourseError for a file of another shape and, unless `skip_faulty`, for entries without one exchange.
    """
    path = Path(path)
    dialogues, faulty = [], []
    for number, entry in enumerate(_json_list(path), start=1):
        text, topic = (entry.get(k) for k in ("input", "topic")) if isinstance(entry, dict) else (None, None)
        parsed = transcript.parse(text) if isinstance(text, str) else None
        if parsed and parsed.kept:
            name = f"{path.stem}-{number:06d}"
            facts = {"source": source or path.stem, "license": license, "strategy": "transcript"}
            dialogues.append(Dialogue(name, str(topic or ""), messages=parsed.messages, end=parsed.reason, **facts))
        else:
            faulty.append(number)
    if faulty and not skip_faulty:
        first = ", ".join(map(str, faulty[:5])) + (" …" if len(faulty) > 5 else "")
        raise CourseError(
            f"{artifacts.show(path)}: {len(faulty)} of {len(dialogues) + len(faulty)} entries hold no exchange "
            f"between [|Human|] and [|AI|] (entry {first}). Mend them, or pass skip_faulty=True to leave them out."
        )
    return dialogues


def write_baize(dialogues, path):
    """Write a file like those that Baize released; return its path. What `read_baize` reads back is the same.

    Raises CourseError for a dialogue that contains role markers of its own: nobody could take it apart again.
    """
    entries = []
    for dialogue in dialogues:
        text = transcript.render(dialogue.messages) + transcript.HUMAN + " "
        spoken = [(m["role"], m["content"].strip()) for m in dialogue.messages]
        if [(m["role"], m["content"]) for m in transcript.parse(text).messages] != spoken:
            raise CourseError(f"Dialogue {dialogue.id!r} has role markers in its text. Run corpus.clean first.")
        entries.append({"topic": dialogue.seed, "input": text})
    return _write_json(entries, path)


def write_sharegpt(dialogues, path):
    """Write {"id", "conversations": [{"from": "human"|"gpt", "value"}]} per dialogue, a JSON list; return its path."""
    names = {"user": "human", "assistant": "gpt"}
    entries = [
        {"id": d.id, "conversations": [{"from": names[m["role"]], "value": m["content"]} for m in d.messages]}
        for d in dialogues
    ]
    return _write_json(entries, path)


def read_messages(path, source="", license=""):
    """Dialogues of a plain JSONL file with {"messages": […]} per line, as the fine-tuning APIs take it.

    A leading system message is left out: the Baize format has its own. Ids are the file's name and the line.
    Raises CourseError, naming the line, for one that does not alternate user and assistant.
    """
    path = Path(path)
    dialogues = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            dialogues.append(_from_messages(path, number, line, source or path.stem, license))
    return dialogues


def _from_messages(path, number, line, source, license):
    try:
        record = json.loads(line)
        messages = record["messages"]
        messages = messages[1:] if messages[0]["role"] == "system" else messages
        record = {"id": f"{path.stem}-{number:06d}", "source": source, "license": license, "messages": messages}
        return Dialogue.from_json(json.dumps(record))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CourseError(
            f"{artifacts.show(path)}:{number}: not a line of messages that alternate user and assistant ({error}). "
            "Mend or delete that line and read again."
        ) from error


def _text(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CourseError(f"Cannot read {artifacts.show(path)} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{artifacts.show(path)} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def _json_list(path):
    try:
        entries = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise CourseError(f"{artifacts.show(path)}:{error.lineno}: not JSON ({error.msg}).") from error
    if not isinstance(entries, list):
        raise CourseError(f"{artifacts.show(path)}: a {type(entries).__name__}, not a list of dialogues.")
    return entries


def _write_json(entries, path):
    artifacts.write_text(path, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    return Path(path)
