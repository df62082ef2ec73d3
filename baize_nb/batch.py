"""The same transcripts by OpenAI's Batch API: a file of requests out, a file of replies back a day later, half price.

Files are uploaded and downloaded with the `openai` client, see notebook 02.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from openai.types.chat import ChatCompletion

from . import common
from .budget import worst_case
from .client import random_seed, read_completion
from .common import CourseError, Journal
from .faults import Faulty
from .selfchat import (
    Outcome,
    Settings,
    dialogue_record,
    failure_record,
    failures_path,
    once_each,
    read_transcript,
    settings_record,
    too_long,
    transcript_messages,
)
from .teacher import Teacher

URL = "/v1/chat/completions"
STRATEGY = "transcript"  # one request a dialogue: the only one that a batch can carry
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}
_REFUSED = NO_USAGE | {"requests": 1, "batch": 1}  # an answer that is an error costs nothing
_NO_RESULT = "no result in these files: the batch is not finished, or has expired"


@dataclass
class BatchReport(Outcome):
    """What `from_batch` did; of the counts see `Outcome`.

    unreadable : ["file:line: why"], set aside in `<name>.unreadable` beside the corpus.
    unknown    : custom_ids in the results that belong to no seed.
    """

    unreadable: list = field(default_factory=list)
    unknown: list = field(default_factory=list)

    def __str__(self):
        text = super().__str__()
        for what, found in (("unreadable lines", self.unreadable), ("ids of no seed", self.unknown)):
            if found:
                text += f"\n{len(found)} {what}: {', '.join(found[:3])}" + (" …" if len(found) > 3 else "")
        return text


def to_batch(
    seeds: list,
    teacher: Teacher,
    folder: str | Path,
    settings: Settings | None = None,
    max_lines: int = 50_000,
    max_bytes: int = 200_000_000,
) -> list[Path]:
    """Write one request per seed to `requests-00001.jsonl` … in `folder`; return the files' paths.

    max_lines, max_bytes : limits of one file, as the Batch API has them.
    Called again with the same arguments it leaves the files as they are and returns them. Seeds that are too long for
    `collect` are left out; `from_batch` records them as failed. Beside the folder lies a manifest.
    Raises CourseError: one id for two texts, no seeds, a line over `max_bytes`, other request files in the folder.
    """
    settings, folder = settings or Settings(), Path(folder)
    seeds = [seed for seed in once_each(seeds).values() if not too_long(seed)]
    if not seeds:
        raise CourseError("There are no seeds to write requests for. Load or sample some first.")
    files = {}  # {path: its lines}
    for part in _parts(seeds, teacher, settings, max_lines, max_bytes):
        path = folder / f"requests-{len(files) + 1:05d}.jsonl"
        _write_once(path, "".join(part))
        files[path] = len(part)
    if len(list(folder.glob("requests-*.jsonl"))) > len(files):
        raise _others(folder)
    common.write_manifest(
        folder,
        made_by="notebooks/02_self_chat.ipynb",
        settings=settings_record(STRATEGY, teacher, settings),
        requests=len(seeds),
        files={path.name: {"lines": lines, "sha256": common.sha256(path)} for path, lines in files.items()},
    )
    return list(files)


def from_batch(
    results, seeds: list, teacher: Teacher, path: str | Path, settings: Settings | None = None
) -> BatchReport:
    """Turn result files into the corpus file that `collect` would have made.

    results : path, or paths, of output and error files; order does not matter, and what was read before is skipped.
    seeds, teacher, settings : those of `to_batch`.
    Each seed ends as a line of the corpus or of `failed.jsonl` beside it, which `retry_failed` takes up again. A line
    that can't be read is set aside, and the rest goes on. Of two results for one seed a good one is taken.
    Raises CourseError: a result file is missing, the corpus was begun with other settings, disk full.
    """
    settings, path, seeds = settings or Settings(), Path(path), once_each(seeds)
    started = settings_record(STRATEGY, teacher, settings)
    results = [Path(r) for r in ([results] if isinstance(results, str | os.PathLike) else results)]
    with Journal(path, started) as corpus, Journal(failures_path(path)) as failures:
        done = corpus.ids()
        report = BatchReport(path, kept=len(done))
        report.write_manifest(started)
        reasons = {}  # {id: (why there is no dialogue, what it cost)}
        for id, result in _results(results, seeds, report):
            if id in done:
                continue
            messages, end, usage = _dialogue(seeds[id], result, teacher, settings)
            if messages:
                about = seeds[id], STRATEGY, teacher.model
                corpus.append(dialogue_record(*about, messages, usage, end))
                done.add(id)
                report.count("made", usage)
            else:
                reasons.setdefault(id, (end, usage))
        _record_failures(failures, [seed for seed in seeds.values() if seed.id not in done], reasons, report)
        report.write_manifest(started)
    return report


def _body(seed, teacher, settings):
    """The request of one seed, the very one that `collect` would send."""
    messages, max_tokens = transcript_messages(seed, settings)
    body = {"messages": messages, "max_tokens": max_tokens} | teacher.sampling | {"seed": random_seed(seed.id, 1)}
    return {"model": teacher.model} | teacher.adapted("chat", body)


def _line(seed, teacher, settings):
    record = {"custom_id": seed.id, "method": "POST", "url": URL, "body": _body(seed, teacher, settings)}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _parts(seeds, teacher, settings, max_lines, max_bytes):
    """The request lines in lists, none with more than `max_lines` lines or `max_bytes` bytes."""
    part, size = [], 0
    for seed in seeds:
        line = _line(seed, teacher, settings)
        length = len(line.encode())
        if length > max_bytes:
            raise CourseError(
                f"The request for seed {seed.id!r} has {length:,} bytes, a file may have {max_bytes:,}. "
                "Shorten that seed, leave it out, or raise max_bytes if your provider allows it."
            )
        if part and (len(part) == max_lines or size + length > max_bytes):
            yield part
            part, size = [], 0
        part.append(line)
        size += length
    yield part


def _write_once(path, text):
    """Write a request file, unless it is there and says the same. It may have been uploaded: it is never replaced."""
    if not path.exists():
        common.write_text(path, text)
    elif path.read_bytes() != text.encode():
        raise _others(path.parent)


def _others(folder):
    return CourseError(
        f"{common.show(folder)} already holds request files that were made from other seeds or settings. "
        "Name another folder. If none of them was uploaded, you can delete them instead."
    )


def _results(paths, seeds, report):
    """(id, result) of each line that belongs to a seed. What can't be read is set aside and named in the report."""
    aside = {}
    for where, line in _lines(paths):
        try:
            result, fault = json.loads(line.decode("utf-8-sig")), "no custom_id"
        except (ValueError, RecursionError):
            result, fault = None, "not JSON, or torn off"
        if not isinstance(result, dict) or not isinstance(result.get("custom_id"), str):
            report.unreadable.append(f"{where}: {fault}")
            aside[line] = None
        elif result["custom_id"] not in seeds:
            report.unknown.append(result["custom_id"])
        else:
            yield result["custom_id"], result
    path = report.path.with_name(report.path.name + ".unreadable")
    known = set(path.read_bytes().splitlines()) if path.exists() else set()
    if new := [line for line in aside if line not in known]:
        with path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in new))


def _lines(paths):
    """("file:line", line in bytes) of every line that is not empty."""
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"{common.show(path)}:{number}", line.strip()
        except OSError as error:
            raise CourseError(
                f"Cannot read {common.show(path)} ({error.strerror}). Download the batch's files first."
            ) from error


def _dialogue(seed, result, teacher, settings):
    """(messages, end, usage) of a result; without messages, end is the reason."""
    text, finish, usage = read_result(result, worst_case(_body(seed, teacher, settings)))
    if text is None:
        return [], finish, usage
    messages, end = read_transcript(text, finish, settings)
    return messages, end if messages else f"no whole exchange ({end})", usage


def read_result(result, worst):
    """Return (text, finish reason, usage) of a result; for one without a reply (None, what is wrong, usage).

    worst : Tokens, what the request may have cost, for endpoints that send no usage.
    usage : {"prompt_tokens", "completion_tokens", "requests": 1, "batch": 1}; the last says "at the price of a batch".
    """
    if fault := _fault(result):
        return None, fault, _REFUSED
    try:
        reply = ChatCompletion.construct(**result["response"]["body"])
        read = read_completion(reply, worst)
    except Faulty as error:
        return None, str(error), _usage(error.bill)
    except (TypeError, ValueError, AttributeError) as error:
        return None, f"the result holds no reply ({type(error).__name__})", _REFUSED
    if read.finish.startswith("refusal"):
        return None, read.finish, _usage(read.usage)
    return read.text, _one_line(read.finish), _usage(read.usage)


def _fault(result):
    """Why a request was not answered at all, "" if it was: an `error`, or a status that is not 200."""
    response = result.get("response")
    if error := result.get("error"):
        return f"batch error: {_words(error)}"
    if not isinstance(response, dict) or not isinstance(response.get("body"), dict):
        return "the result holds no reply"
    if response.get("status_code") != 200:
        return f"HTTP {response.get('status_code')}: {_words(response['body'].get('error'))}"
    return ""


def _words(error):
    """An error object in one line: its code and message."""
    parts = [error.get("code"), error.get("message")] if isinstance(error, dict) else [error]
    return _one_line(": ".join(str(part) for part in parts if part)) or "no reason given"


def _one_line(text):
    return " ".join(str(text).split())[:500]


def _usage(bill):
    return {"prompt_tokens": bill.prompt, "completion_tokens": bill.completion, "requests": 1, "batch": 1}


def _record_failures(failures, seeds, reasons, report):
    """A line in failed.jsonl for each of these seeds, unless the same failure stands there already."""
    known = {(record["id"], record["reason"]) for record in failures.records()}
    for seed in seeds:
        reason, usage = reasons.get(seed.id) or (too_long(seed) or _NO_RESULT, NO_USAGE)
        if (seed.id, reason) not in known:
            failures.append(failure_record(seed, reason, usage))
            report.count("failed", usage)
