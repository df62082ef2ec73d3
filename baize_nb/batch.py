"""The same transcripts by OpenAI's Batch API: a file of requests out, a file of replies back a day later, half price.

Files are uploaded and downloaded with the `openai` client, see notebook 02.
"""

import json
import os
from pathlib import Path

from openai.types.chat import ChatCompletion

from . import common, selfchat
from .answers import Tokens, read_completion
from .client import random_seed, worst_case
from .common import CourseError, Journal
from .faults import Faulty, describe
from .selfchat import Report, Settings
from .teacher import Teacher

URL = "/v1/chat/completions"
STRATEGY = "transcript"  # one request a dialogue: the only one that a batch can carry
MAX_BYTES = 200_000_000  # of one file, as the Batch API has it
_NO_RESULT = "no result in these files: the batch is not finished, or has expired"


def _body(seed, teacher, settings):
    """The request of one seed, the very one that `collect` would send."""
    messages, max_tokens = selfchat.transcript_messages(seed, settings)
    body = {"messages": messages, "max_tokens": max_tokens} | teacher.sampling | {"seed": random_seed(seed.id, 1)}
    return {"model": teacher.model} | teacher.adapted("chat", body)


def to_batch(
    seeds: list, teacher: Teacher, folder: str | Path, settings: Settings | None = None, max_lines: int = 50_000
) -> list[Path]:
    """Write one request per seed to `requests-00001.jsonl` … in `folder`; return the files' paths.

    Called again it leaves the files as they are. Seeds that are too long for `collect` are left out.
    """
    settings, folder = settings or Settings(), Path(folder)
    seeds = [seed for seed in selfchat.once_each(seeds).values() if not selfchat.too_long(seed)]
    if not seeds:
        raise CourseError("There are no seeds to write requests for. Load or sample some first.")
    parts, size = [[]], 0
    for seed in seeds:
        record = {"custom_id": seed.id, "method": "POST", "url": URL, "body": _body(seed, teacher, settings)}
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        if len(line) > MAX_BYTES:
            fault = f"The request for seed {seed.id!r} has {len(line):,} bytes"
            raise CourseError(f"{fault}, a file may have {MAX_BYTES:,}.")
        if len(parts[-1]) == max_lines or size + len(line) > MAX_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(line)
        size += len(line)
    files = {folder / f"requests-{n:05d}.jsonl": b"".join(part) for n, part in enumerate(parts, 1)}
    others = set(folder.glob("requests-*.jsonl")) - set(files)
    if others or any(path.exists() and path.read_bytes() != content for path, content in files.items()):
        # They may have been uploaded: they are never replaced.
        fault = f"{common.show(folder)} already holds request files that were made from other seeds or settings."
        raise CourseError(f"{fault} Name another folder. If none of them was uploaded, you can delete them instead.")
    for path, content in files.items():
        if not path.exists():
            common.write_text(path, content.decode())
    facts = {"settings": selfchat.settings_record(STRATEGY, teacher, settings), "requests": len(seeds)}
    facts["files"] = {path.name: common.sha256(path) for path in files}
    common.write_manifest(folder, "notebooks/02_self_chat.ipynb", **facts)
    return list(files)


def from_batch(results, seeds: list, teacher: Teacher, path: str | Path, settings: Settings | None = None) -> Report:
    """Turn result files into the corpus file that `collect` would have made.

    results : path, or paths, of output and error files, in any order. seeds, teacher, settings : those of `to_batch`.
    Each seed ends as a line of the corpus or of `failed.jsonl` beside it, which `retry_failed` takes up again. A line
    that can't be read is named. Of two results for one seed a good one is taken.
    """
    settings, path, seeds = settings or Settings(), Path(path), selfchat.once_each(seeds)
    shaped_by = selfchat.settings_record(STRATEGY, teacher, settings)
    reasons = {seed.id: (selfchat.too_long(seed) or _NO_RESULT, None) for seed in seeds.values()}
    with Journal(path, shaped_by) as corpus, Journal(selfchat.failures_path(path)) as failures:
        done = corpus.ids()
        report = Report(path, kept=len(done))
        report.write_manifest(shaped_by)
        for id, result in _results([results] if isinstance(results, str | os.PathLike) else results):
            if id not in seeds:
                print(f"The result {id!r} belongs to no seed.")
            elif id not in done:
                text, end, usage = read_result(result, worst_case(_body(seeds[id], teacher, settings)))
                if text is not None:
                    messages, end = selfchat.read_transcript(text, end, settings)
                    if messages:
                        made = selfchat.dialogue_record(seeds[id], STRATEGY, teacher.model, messages, usage, end)
                        corpus.append(made)
                        done.add(id)
                        report.count("made", usage)
                        continue
                    end = f"no whole exchange ({end})"
                if reasons[id][1] is None:
                    reasons[id] = end, usage
        known = {(record["id"], record["reason"]) for record in failures.records()}
        for id, (reason, usage) in reasons.items():
            if id not in done and (id, reason) not in known:
                usage = usage or {"prompt_tokens": 0, "completion_tokens": 0, "requests": 0}
                failures.append(selfchat.failure_record(seeds[id], reason, usage))
                report.count("failed", usage)
        report.write_manifest(shaped_by)
    return report


def _results(paths):
    for path in map(Path, paths):
        if not path.is_file():
            raise CourseError(f"There is no {common.show(path)}. Download the batch's files first.")
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                result = json.loads(line)
                id = str(result["custom_id"])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                print(f"{common.show(path)}:{number} is no result of a batch: {error}")
                continue
            yield id, result


def read_result(result: dict, worst: Tokens) -> tuple:
    """Return (text, finish reason, usage) of a result; for one without a reply (None, what is wrong, usage)."""
    response, bill, text = result.get("response"), Tokens(), None
    body = response.get("body") if isinstance(response, dict) else None
    if error := result.get("error"):
        said = f"batch error: {describe(Faulty('no reason given', bill, body=error))}"
    elif not isinstance(body, dict):
        said = "the result holds no reply"
    elif response.get("status_code") != 200:
        said = describe(Faulty("no reason given", bill, response.get("status_code"), body.get("error")))
    else:
        try:
            text, said, bill = read_completion(ChatCompletion.construct(**body), worst)[:3]
            text = None if said.startswith("refusal") else text
        except Faulty as error:
            said, bill = str(error), error.bill
        except (TypeError, ValueError, AttributeError) as error:
            said = f"the result holds no reply ({type(error).__name__})"
    usage = {"prompt_tokens": bill.prompt, "completion_tokens": bill.completion, "requests": 1}
    return text, said, usage | {"batch": 1}  # at the price of a batch
