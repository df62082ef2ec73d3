"""The whole course in one command, `make course`: fetch the model, run the notebooks in order, say what came of it.

python tools/course.py              the notebooks 00–05
python tools/course.py --beyond     00–08: evaluation, self-distillation and scaling out as well
python tools/course.py FILE ...     only these
python tools/course.py --fetch      only the embedded model
"""

import contextlib
import hashlib
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import run_notebooks
from filelock import FileLock, Timeout

from baize_nb import common, models, profiles
from baize_nb.common import CourseError, duration

READS = {
    "02_self_chat": ("seeds.jsonl",),
    "03_corpus_inspection": ("corpus.jsonl",),
    "04_lora_finetuning": ("train.jsonl", "heldout.jsonl"),
    "05_chat": ("adapter", "heldout.jsonl"),
    "06_evaluation": ("adapter", "train.jsonl", "heldout.jsonl"),
    "07_self_distillation": ("adapter", "train.jsonl", "heldout.jsonl"),
    "08_scaling_out": ("corpus.jsonl",),
}
WRITES = {
    "01_seed_sampling": ("seeds.jsonl",),
    "02_self_chat": ("corpus.jsonl",),
    "03_corpus_inspection": ("train.jsonl", "heldout.jsonl"),
    "04_lora_finetuning": ("adapter",),
    "05_chat": ("before_after.json",),
    "06_evaluation": ("evaluation", "adapter-everything"),
    "07_self_distillation": ("sdf",),
    "08_scaling_out": ("scaling",),
}
LEAVES_THE_TEACHER_ALONE = ("01_seed_sampling", "03_corpus_inspection", "04_lora_finetuning")
TEACHER_SETTINGS = ("BAIZE_TEACHER_URL", "BAIZE_TEACHER_MODEL", "BAIZE_TEACHER")
# A cell that hangs must end some day; a slow laptop must not be cut off. GPU profiles may train for days: no bound.
CELL_SECONDS = {"ci": 30 * 60, "laptop": 6 * 3600}
AGAIN = "run the same command again: it goes on from there."


def main(arguments: list[str]) -> int:
    """Run the course; return the process's exit code. Every failure is a sentence on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console without UTF-8 shows ? for an arrow and goes on
    try:
        if arguments == ["--fetch"]:
            models.embedded()
        else:
            last = 8 if arguments == ["--beyond"] else 5
            course = sorted(run_notebooks.FOLDER.glob(f"0[0-{last}]_*.ipynb"))
            run([Path(a).absolute() for a in arguments if a != "--beyond"] or course)
        return 0
    except CourseError as error:
        print(f"\n{error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept. Run the same command to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"\nThe system said: {error}. When that is mended, {AGAIN}", file=sys.stderr)
    return 1


def run(paths: list[Path]) -> None:
    """Execute these notebooks in order, reusing what a former run finished; say what came of it."""
    started = time.monotonic()
    profile = profiles.current()
    # Kernels have notebooks/ as their working folder: a relative BAIZE_RUNS would mean another place there.
    if os.environ.get("BAIZE_RUNS"):
        os.environ["BAIZE_RUNS"] = str(Path(os.environ["BAIZE_RUNS"]).expanduser().absolute())
    folder = common.runs()
    print(f"Profile {profile.name}; everything is written to {_shown(folder)}/", flush=True)
    try:  # two runs of a profile at a time would write the same artifacts
        lock = FileLock(folder / ".course.lock").acquire(timeout=0)
    except Timeout:
        raise CourseError(f"Another run of the course is writing to {_shown(folder)}. Wait for it.") from None
    with lock:
        if profile.base == "embedded":
            models.embedded()
        for number, path in enumerate(paths, 1):
            _step(path, folder / "notebooks" / path.name, f"[{number}/{len(paths)}] {path.stem}")
    print(f"\nDone in {duration(time.monotonic() - started)}.")
    print("\n".join(summary(folder)))


def _step(path, copy, label):
    """One notebook: executed into `copy`, or left alone where its copy is up to date."""
    notebook, state = run_notebooks.read(path), fingerprint(path)
    if finished(copy, state):
        print(f"{label} … done before", flush=True)
        return
    try:
        with _progress(label) as on_cell:
            run_notebooks.execute(notebook, path.parent, CELL_SECONDS.get(profiles.current().name), on_cell)
    except run_notebooks.CellFailed as error:
        try:
            run_notebooks.write(run_notebooks.canonical(notebook), copy)
            kept = f"To see it in its place: make lab PROFILE={profiles.current().name} NOTEBOOK={_shown(copy)}"
        except CourseError as full_disk:
            kept = str(full_disk)
        raise CourseError(f"{path.stem} stopped at {error}\n{kept}\nWhen it is mended, {AGAIN}") from error
    notebook = run_notebooks.canonical(notebook)
    notebook.metadata["baize"] = {"fingerprint": state}
    run_notebooks.write(notebook, copy)


@contextlib.contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """The line of one notebook: redrawn after each cell on a terminal, written once elsewhere. Yields its `on_cell`."""
    started, ending = time.monotonic(), "failed after "

    def on_cell(done, total):
        if sys.stdout.isatty():
            print(f"\r\x1b[K{label} … {done} of {total} cells ", end="", flush=True)

    print(f"{label} … ", end="", flush=True)
    try:
        yield on_cell
        ending = ""
    except KeyboardInterrupt:
        ending = "stopped after "
        raise
    finally:
        if sys.stdout.isatty():
            print(f"\r\x1b[K{label} … ", end="")
        print(f"{ending}{duration(time.monotonic() - started)}", flush=True)


def fingerprint(path: Path) -> str:
    """Hash all that decides a notebook's outcome: itself, the package, the teacher asked, what it reads."""
    digest = hashlib.sha256()
    code = [*Path(common.__file__).parent.rglob("*.py"), *run_notebooks.FOLDER.glob("checks/*.py")]
    read = [common.runs() / name for name in READS.get(path.stem, ())]
    read += [file for folder in read for file in sorted(folder.rglob("*"))]  # of an adapter
    for file in [path, *sorted(code), *filter(Path.is_file, read)]:
        digest.update(f"{file.name} {common.sha256(file)}\n".encode())
    digest.update(os.environ.get("BAIZE_BASE", "").encode())
    if path.stem not in LEAVES_THE_TEACHER_ALONE:
        settings = [os.environ.get(name, "") for name in TEACHER_SETTINGS]
        digest.update(json.dumps([*settings, bool(os.environ.get("OPENAI_API_KEY"))]).encode())
    return digest.hexdigest()


def finished(copy: Path, state: str) -> bool:
    """Tell whether a former run finished this notebook in the same state, and what it wrote is still there."""
    if not all((common.runs() / name).exists() for name in WRITES.get(copy.stem, ())):
        return False
    return _json(copy).get("metadata", {}).get("baize", {}).get("fingerprint") == state


def _shown(path):
    """A path as it can be typed after `make` in the checkout: relative to it where it lies inside, else absolute."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def summary(folder: Path) -> list[str]:
    """List what closes a run: corpus, adapter, held-out loss, one question before and after. Only what is there."""
    lines = []
    corpus, adapter = folder / "corpus.jsonl", folder / "adapter"
    if corpus.is_file():
        count = sum(1 for line in corpus.open(encoding="utf-8") if line.strip())
        lines.append(f"Corpus: {_shown(corpus)} ({count} dialogues, {corpus.stat().st_size:,} bytes)")
    if adapter.is_dir():
        lines.append(f"Adapter: {_shown(adapter)}")
        run = _json(folder / "adapter.manifest.json").get("run", {})
        before, after = run.get("loss_before"), run.get("loss_after")
        if before is not None and after is not None:
            lines.append(f"Held-out loss: {before:.3f} → {after:.3f} (lower is better)")
    if (answers := _json(folder / "before_after.json")) and folder.name == "ci":
        lines.append("Profile ci trains for a few steps only, so the reply hardly changes. For more: make course")
    # "own format": the base model in the chat format that it was made for, the fair baseline
    for key in ("question", "before", "own format", "after"):
        if key in answers:
            words = " ".join(str(answers[key]).split()) or "(nothing)"
            label = f"{key.capitalize() + ':':12}"
            lines.append(textwrap.fill(words, 100, initial_indent=label, subsequent_indent=" " * len(label)))
    if (folder / "notebooks").is_dir():
        lab = f"make lab PROFILE={folder.name}"
        lines.append(f"To do it yourself: {lab}; an executed copy: {lab} NOTEBOOK={_shown(folder / 'notebooks')}/…")
    return lines


def _json(path):
    """A JSON object from a file; empty where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
