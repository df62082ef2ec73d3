"""The same transcripts by OpenAI's Batch API: a file of requests out, a file of replies back a day later, half price.

Knows: the request files and their limits, and how each seed ends as a dialogue or as a recorded failure.
Does not know: uploads (the `openai` client does them), or what a result line looks like (batchresults.py).
Built in notebook 02.
"""

import json
import os
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .. import artifacts
from ..errors import CourseError
from . import collecting
from .asking import worst_case
from .batchresults import NO_USAGE, read_result, result_lines
from .journal import Journal
from .strategies import Settings, read_transcript, transcript_messages

URL = "/v1/chat/completions"


@dataclass
class BatchReport:
    """What `from_batch` did.

    made : dialogues added. kept : dialogues that were there before. failed : lines added to `failed.jsonl`.
    unreadable : ["file:line: why"], set aside in `<name>.unreadable` beside the corpus.
    unknown    : custom_ids in the results that belong to no seed. usage : tokens of the dialogues and failures added.
    """

    path: Path
    made: int = 0
    kept: int = 0
    failed: int = 0
    unreadable: list = field(default_factory=list)
    unknown: list = field(default_factory=list)
    usage: dict = field(default_factory=dict)

    def __str__(self):
        text = (
            f"{artifacts.show(self.path)}: {self.made} dialogues made, {self.kept} kept from before, "
            f"{self.failed} failed; {self.usage.get('completion_tokens', 0):,} tokens written by the teacher"
        )
        for what, found in (("unreadable lines", self.unreadable), ("ids of no seed", self.unknown)):
            if found:
                text += f"\n{len(found)} {what}: {', '.join(found[:3])}" + (" …" if len(found) > 3 else "")
        return text


def to_batch(seeds, teacher, folder, settings=None, max_lines=50_000, max_bytes=200_000_000):
    """Write one request per seed to `requests-00001.jsonl` … in `folder`; return the files' paths.

    max_lines, max_bytes : limits of one file, as the Batch API has them.
    Called again with the same arguments it leaves the files as they are and returns them. Seeds that are too long for
    `collect` are left out; `from_batch` records them as failed. Beside the folder lies a manifest.
    Raises CourseError: an id met twice, no seeds, a line over `max_bytes`, other request files in the folder.
    """
    settings, folder = settings or Settings(), Path(folder)
    seeds = [seed for seed in _by_id(seeds).values() if len(seed.text) <= collecting.LONGEST_SEED]
    if not seeds:
        raise CourseError("There are no seeds to write requests for. Load or sample some first.")
    files = {}  # {path: its lines}
    for part in _parts(seeds, teacher, settings, max_lines, max_bytes):
        path = folder / f"requests-{len(files) + 1:05d}.jsonl"
        _write_once(path, "".join(part))
        files[path] = len(part)
    if len(list(folder.glob("requests-*.jsonl"))) > len(files):
        raise _others(folder)
    artifacts.write_manifest(
        folder,
        made_by="notebooks/02_self_chat.ipynb",
        settings=_settings(teacher, settings),
        requests=len(seeds),
        files={path.name: {"lines": lines, "sha256": artifacts.sha256(path)} for path, lines in files.items()},
    )
    return list(files)


def from_batch(results, seeds, teacher, path, settings=None):
    """Turn result files into the corpus file that `collect` would have made. Returns a BatchReport.

    results : path, or paths, of output and error files; order does not matter, and what was read before is skipped.
    seeds, teacher, settings : those of `to_batch`.
    Each seed ends as a line of the corpus or of `failed.jsonl` beside it, which `retry_failed` takes up again. A line
    that can't be read is set aside, and the rest goes on. Of two results for one seed a good one is taken.
    Raises CourseError: a result file is missing, the corpus was begun with other settings, disk full.
    """
    settings, path, seeds = settings or Settings(), Path(path), _by_id(seeds)
    started = _settings(teacher, settings)
    results = [Path(r) for r in ([results] if isinstance(results, str | os.PathLike) else results)]
    with Journal(path, started) as corpus, Journal(collecting.failures_path(path), {}) as failures:
        done = corpus.ids()
        report = BatchReport(path, kept=len(done))
        collecting.write_manifest(report, started)
        reasons = {}  # {id: (why there is no dialogue, what it cost)}
        for id, result in _results(results, seeds, report):
            if id in done:
                continue
            messages, end, usage = _dialogue(seeds[id], result, teacher, settings)
            if messages:
                about = seeds[id], "transcript", teacher.model
                corpus.append(collecting.dialogue_record(*about, messages, usage, end))
                done.add(id)
                _count(report, "made", usage)
            else:
                reasons.setdefault(id, (end, usage))
        _record_failures(failures, [seed for seed in seeds.values() if seed.id not in done], reasons, report)
        collecting.write_manifest(report, started)
    return report


def _by_id(seeds):
    """{id: seed}. Raises CourseError for an id met twice: a result could belong to either."""
    seeds = list(seeds)
    twice = [id for id, times in Counter(seed.id for seed in seeds).items() if times > 1]
    if twice:
        raise CourseError(f"{len(twice)} seed ids occur twice, {twice[0]!r} first. Give each seed an id of its own.")
    return {seed.id: seed for seed in seeds}


def _settings(teacher, settings):
    """What shapes the dialogues, as `collect` has it in the corpus' manifest: both can go on with the other's file."""
    about = {"strategy": "transcript", "model": teacher.model, "sampling": teacher.sampling}
    return about | settings.record("transcript")


def _body(seed, teacher, settings):
    """The request of one seed, the very one that `collect` would send."""
    messages, max_tokens = transcript_messages(seed, settings)
    number = (zlib.crc32(seed.id.encode()) & 0x7FFFFFFF) + 1  # as in asking.Line
    return {"model": teacher.model, "messages": messages, "max_tokens": max_tokens, **teacher.sampling, "seed": number}


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
        artifacts.write_text(path, text)
    elif path.read_bytes() != text.encode():
        raise _others(path.parent)


def _others(folder):
    return CourseError(
        f"{artifacts.show(folder)} already holds request files that were made from other seeds or settings. "
        "Name another folder. If none of them was uploaded, you can delete them instead."
    )


def _results(paths, seeds, report):
    """(id, result) of each line that belongs to a seed. What can't be read is set aside and named in the report."""
    aside = []
    for where, line, result, fault in result_lines(paths):
        if fault:
            report.unreadable.append(f"{where}: {fault}")
            aside.append(line)
        elif result["custom_id"] not in seeds:
            report.unknown.append(result["custom_id"])
        else:
            yield result["custom_id"], result
    _set_aside(report.path.with_name(report.path.name + ".unreadable"), aside)


def _set_aside(path, lines):
    """Append to the file of unreadable lines those that are not in it yet."""
    known = set(path.read_bytes().splitlines()) if path.exists() else set()
    if new := [line for line in dict.fromkeys(lines) if line not in known]:
        with path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in new))


def _dialogue(seed, result, teacher, settings):
    """(messages, end, usage) of a result; without messages, end is the reason."""
    text, finish, usage = read_result(result, worst_case(_body(seed, teacher, settings)))
    if text is None:
        return [], finish, usage
    messages, end = read_transcript(text, finish, settings)
    return messages, end if messages else f"no whole exchange ({end})", usage


def _record_failures(failures, seeds, reasons, report):
    """A line in failed.jsonl for each of these seeds, unless the same failure stands there already."""
    known = {(record["id"], record["reason"]) for record in failures.records()}
    for seed in seeds:
        reason, usage = reasons.get(seed.id) or (_never_answered(seed), NO_USAGE)
        if (seed.id, reason) not in known:
            failures.append(collecting.failure_record(seed, reason, usage))
            _count(report, "failed", usage)


def _never_answered(seed):
    if len(seed.text) > collecting.LONGEST_SEED:
        return f"the seed has {len(seed.text):,} characters, at most {collecting.LONGEST_SEED:,} are sent"
    return "no result in these files: the batch is not finished, or has expired"


def _count(report, what, usage):
    setattr(report, what, getattr(report, what) + 1)
    for key, value in usage.items():
        report.usage[key] = report.usage.get(key, 0) + value
