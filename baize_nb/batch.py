"""The same transcripts by OpenAI's Batch API: a file of requests out, a file of replies back a day later, half price.

Files are uploaded and downloaded with the `openai` client, see notebook 02.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from openai.types.chat import ChatCompletion

from . import common
from .budget import Tokens, worst_case
from .client import random_seed, read_completion
from .common import CourseError, Journal
from .faults import Faulty
from .selfchat import (
    Report,
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
_NO_RESULT = "no result in these files: the batch is not finished, or has expired"


@dataclass
class BatchReport(Report):
    """What `from_batch` did; of the counts see `Report`.

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


def _body(seed, teacher, settings):
    """The request of one seed, the very one that `collect` would send."""
    messages, max_tokens = transcript_messages(seed, settings)
    body = {"messages": messages, "max_tokens": max_tokens} | teacher.sampling | {"seed": random_seed(seed.id, 1)}
    return {"model": teacher.model} | teacher.adapted("chat", body)


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
    parts, size = [[]], 0
    for seed in seeds:
        record = {"custom_id": seed.id, "method": "POST", "url": URL, "body": _body(seed, teacher, settings)}
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        if len(line) > max_bytes:
            raise CourseError(
                f"The request for seed {seed.id!r} has {len(line):,} bytes, a file may have {max_bytes:,}. "
                "Shorten that seed, leave it out, or raise max_bytes if your provider allows it."
            )
        if len(parts[-1]) == max_lines or size + len(line) > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += len(line)
    files = {folder / f"requests-{n:05d}.jsonl": part for n, part in enumerate(parts, 1)}
    others = set(folder.glob("requests-*.jsonl")) - set(files)
    if others or any(path.exists() and path.read_bytes() != b"".join(part) for path, part in files.items()):
        raise CourseError(  # they may have been uploaded: they are never replaced
            f"{common.show(folder)} already holds request files that were made from other seeds or settings. "
            "Name another folder. If none of them was uploaded, you can delete them instead."
        )
    for path, part in files.items():
        if not path.exists():
            common.write_text(path, b"".join(part).decode())
    common.write_manifest(
        folder,
        made_by="notebooks/02_self_chat.ipynb",
        settings=settings_record(STRATEGY, teacher, settings),
        requests=len(seeds),
        files={path.name: {"lines": len(part), "sha256": common.sha256(path)} for path, part in files.items()},
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
    shaped_by = settings_record(STRATEGY, teacher, settings)
    results = [Path(r) for r in ([results] if isinstance(results, str | os.PathLike) else results)]
    with Journal(path, shaped_by) as corpus, Journal(failures_path(path)) as failures:
        done = corpus.ids()
        report = BatchReport(path, kept=len(done))
        report.write_manifest(shaped_by)
        reasons = {}  # {id: (why there is no dialogue, what it cost)}
        for id, result in _results(results, seeds, report):
            if id in done:
                continue
            text, end, usage = read_result(result, worst_case(_body(seeds[id], teacher, settings)))
            if text is not None:
                messages, end = read_transcript(text, end, settings)
                if messages:
                    corpus.append(dialogue_record(seeds[id], STRATEGY, teacher.model, messages, usage, end))
                    done.add(id)
                    report.count("made", usage)
                    continue
                end = f"no whole exchange ({end})"
            reasons.setdefault(id, (end, usage))
        known = {(record["id"], record["reason"]) for record in failures.records()}
        for seed in seeds.values():
            if seed.id not in done:
                reason, usage = reasons.get(seed.id) or (too_long(seed) or _NO_RESULT, _usage(Tokens(), requests=0))
                if (seed.id, reason) not in known:
                    failures.append(failure_record(seed, reason, usage))
                    report.count("failed", usage)
        report.write_manifest(shaped_by)
    return report


def _results(paths, seeds, report):
    """(id, result) of each line that belongs to a seed. What can't be read is set aside and named in the report."""
    aside = {}
    for path in paths:
        try:
            file = path.open("rb")
        except OSError as error:
            raise CourseError(
                f"Cannot read {common.show(path)} ({error.strerror}). Download the batch's files first."
            ) from error
        with file:
            for number, line in enumerate(file, start=1):
                try:
                    result, fault = json.loads(line.decode("utf-8-sig")), "no custom_id"
                except (ValueError, RecursionError):
                    result, fault = None, "not JSON, or torn off"
                if isinstance(result, dict) and isinstance(result.get("custom_id"), str):
                    if result["custom_id"] in seeds:
                        yield result["custom_id"], result
                    else:
                        report.unknown.append(result["custom_id"])
                elif line.strip():
                    report.unreadable.append(f"{common.show(path)}:{number}: {fault}")
                    aside[line.strip()] = None
    path = report.path.with_name(report.path.name + ".unreadable")
    known = set(path.read_bytes().splitlines()) if path.exists() else set()
    if new := [line + b"\n" for line in aside if line not in known]:
        with path.open("ab") as file:
            file.writelines(new)


def _usage(bill, requests=1):
    """The usage of a result; "batch" says "at the price of a batch"."""
    usage = {"prompt_tokens": bill.prompt, "completion_tokens": bill.completion, "requests": requests}
    return usage | ({"batch": 1} if requests else {})


def read_result(result: dict, worst: Tokens) -> tuple:
    """Return (text, finish reason, usage) of a result; for one without a reply (None, what is wrong, usage).

    worst : what the request may have cost, for endpoints that send no usage. An answer that is an error costs nothing.
    """
    response, bill, text = result.get("response"), Tokens(), None
    body = response.get("body") if isinstance(response, dict) else None
    if error := result.get("error"):
        said = f"batch error: {_words(error)}"
    elif not isinstance(body, dict):
        said = "the result holds no reply"
    elif response.get("status_code") != 200:
        said = f"HTTP {response.get('status_code')}: {_words(body.get('error'))}"
    else:
        try:
            text, said, bill = read_completion(ChatCompletion.construct(**body), worst)[:3]
            text = None if said.startswith("refusal") else text
        except Faulty as error:
            said, bill = str(error), error.bill
        except (TypeError, ValueError, AttributeError) as error:
            said = f"the result holds no reply ({type(error).__name__})"
    return text, said, _usage(bill)


def _words(error):
    """An error object in one line: its code and message."""
    parts = [error.get("code"), error.get("message")] if isinstance(error, dict) else [error]
    return " ".join(": ".join(str(part) for part in parts if part).split())[:500] or "no reason given"
