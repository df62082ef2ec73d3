"""The whole course in one command: fetch the model, run the notebooks in order, say what came of it.

Knows: the order of the notebooks, which artifacts each reads and writes, and what is still good from a former run.
Does not know: how a notebook runs (run_notebooks.py) or what a stage does. Used by `make course`:

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
import threading
import time
from pathlib import Path

import run_notebooks

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
TEACHER_SETTINGS = ("BAIZE_TEACHER_URL", "BAIZE_TEACHER_MODEL")
# A cell that hangs must end some day; a slow laptop must not be cut off. GPU profiles may train for days: no bound.
CELL_SECONDS = {"ci": 30 * 60, "laptop": 6 * 3600}
AGAIN = "run the same command again: it goes on from there."


class Progress:
    """The line of one notebook; on a terminal it is redrawn every second, elsewhere written once."""

    def __init__(self, label):
        self.label, self.ending, self.cells = label, "", ""
        self.live = sys.stdout.isatty()
        self.started = time.monotonic()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        print(f"{self.label} … ", end="", flush=True)
        if self.live:
            self._ticker.start()
        return self

    def cell(self, done, total):
        """Called by `run_notebooks.execute` after each cell."""
        self.cells = f"{done} of {total} cells, "

    def _tick(self):
        while not self._over.wait(1):
            self._draw(self.cells + duration(time.monotonic() - self.started))

    def _draw(self, text):
        print(f"\r\x1b[K{self.label} … {text}", end="", flush=True)

    def __exit__(self, *_):
        self._over.set()
        text = " after ".join(filter(None, (self.ending, duration(time.monotonic() - self.started))))
        if self.live:
            self._ticker.join()
            self._draw(text)
            print()
        else:
            print(text, flush=True)


def main(arguments):
    """Run the course; return the process's exit code. Every failure is a sentence on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console without UTF-8 shows ? for an arrow and goes on
    try:
        if arguments == ["--fetch"]:
            models.embedded()
        elif arguments == ["--beyond"]:
            run(files("0[0-8]_*.ipynb"))
        else:
            run([Path(a).absolute() for a in arguments] or files())
        return 0
    except CourseError as error:
        print(f"\n{error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept. Run the same command to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"\nThe system said: {error}. When that is mended, {AGAIN}", file=sys.stderr)
    return 1


def files(pattern="0[0-5]_*.ipynb"):
    """The course's notebooks in order: those that follow the article, 00–05, unless another pattern is given."""
    found = sorted(run_notebooks.FOLDER.glob(pattern))
    if not found:
        raise CourseError("There are no notebooks here. Run this in a clone of the course's repository.")
    return found


def run(paths):
    """Execute these notebooks in order, reusing what a former run finished; say what came of it."""
    started = time.monotonic()
    profile = profiles.current()
    # Kernels have notebooks/ as their working folder: a relative BAIZE_RUNS would mean another place there.
    if os.environ.get("BAIZE_RUNS"):
        os.environ["BAIZE_RUNS"] = str(Path(os.environ["BAIZE_RUNS"]).expanduser().absolute())
    folder = common.runs()
    print(f"Profile {profile.name}; everything is written to {_shown(folder)}/", flush=True)
    with _alone(folder):
        if profile.base == "embedded":
            models.embedded()
        for number, path in enumerate(paths, 1):
            _step(path, folder / "notebooks" / path.name, f"[{number}/{len(paths)}] {path.stem}")
    print(f"\nDone in {duration(time.monotonic() - started)}.")
    print("\n".join(summary(folder)))


@contextlib.contextmanager
def _alone(folder):
    """One run of a profile at a time: two would write the same artifacts."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".course.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CourseError(f"Another run of the course is writing to {_shown(folder)}. Wait for it.") from None
    try:
        yield
    finally:
        lock.release()


def _step(path, copy, label):
    """One notebook: executed into `copy`, or left alone where its copy is up to date."""
    notebook, state = run_notebooks.read(path), fingerprint(path)
    if _finished(copy, state):
        print(f"{label} … done before", flush=True)
        return
    limit = CELL_SECONDS.get(profiles.current().name)
    with Progress(label) as progress:
        try:
            run_notebooks.execute(notebook, path.parent, limit, progress.cell)
        except run_notebooks.CellFailed as error:
            progress.ending = "failed"
            raise CourseError(
                f"{path.stem} stopped at {error}\n{_keep(notebook, copy)}\nWhen it is mended, {AGAIN}"
            ) from error
        except KeyboardInterrupt:
            progress.ending = "stopped"
            raise
    notebook = run_notebooks.canonical(notebook)
    notebook.metadata["baize"] = {"fingerprint": state}
    run_notebooks.write(notebook, copy)


def _keep(notebook, copy):
    """Write the copy that stopped; return the sentence that says where it is, or why it could not be kept."""
    try:
        run_notebooks.write(run_notebooks.canonical(notebook), copy)
    except CourseError as error:
        return str(error)
    return f"To see it in its place: make lab PROFILE={profiles.current().name} NOTEBOOK={_shown(copy)}"


def fingerprint(path):
    """Hex SHA-256 of all that decides a notebook's outcome: itself, the package, the teacher asked, what it reads."""
    digest = hashlib.sha256()
    package = sorted(Path(common.__file__).parent.rglob("*.py"))
    package += sorted(run_notebooks.FOLDER.glob("checks/*.py"))
    read = [common.runs() / name for name in READS.get(path.stem, ())]
    for file in [path, *package, *(f for r in read for f in _contents(r))]:
        digest.update(f"{file.name} {common.sha256(file)}\n".encode())
    if path.stem not in LEAVES_THE_TEACHER_ALONE:
        settings = [os.environ.get(name, "") for name in TEACHER_SETTINGS]
        digest.update(json.dumps([*settings, bool(os.environ.get("OPENAI_API_KEY"))]).encode())
    return digest.hexdigest()


def _contents(path):
    """The file itself, or the files of a folder; none where there is nothing yet."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def _finished(copy, state):
    """Whether a former run finished this notebook in the same state, and what it wrote is still there."""
    if not all((common.runs() / name).exists() for name in WRITES.get(copy.stem, ())):
        return False
    try:
        return json.loads(copy.read_text(encoding="utf-8"))["metadata"]["baize"]["fingerprint"] == state
    except (OSError, ValueError, KeyError):
        return False


def _shown(path):
    """A path as it can be typed after `make` in the checkout: relative to it where it lies inside, else absolute."""
    path = Path(path).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def summary(folder):
    """Lines that close a run: corpus, adapter, held-out loss, one question before and after. Only what is there."""
    lines = []
    corpus, adapter, answers = folder / "corpus.jsonl", folder / "adapter", folder / "before_after.json"
    if corpus.is_file():
        count = sum(1 for line in corpus.open(encoding="utf-8") if line.strip())
        lines.append(f"Corpus: {_shown(corpus)} ({count} dialogues, {corpus.stat().st_size:,} bytes)")
    if adapter.is_dir():
        lines.append(f"Adapter: {_shown(adapter)}")
        run = _json(folder / "adapter.manifest.json").get("run", {})
        before, after = run.get("loss_before"), run.get("loss_after")
        if before is not None and after is not None:
            lines.append(f"Held-out loss: {before:.3f} → {after:.3f} (lower is better)")
    if answers.is_file():
        if folder.name == "ci":
            few = "Profile ci trains for a few steps only, so the reply hardly changes. For the real thing: make course"
            lines.append(few)
        lines += [_told(key, text) for key, text in _json(answers).items() if key in ("question", "before", "after")]
    if (folder / "notebooks").is_dir():
        lines += _next(folder)
    return lines


def _next(folder):
    """Lines on what to do now. The folder of artifacts has the profile's name."""
    lab = f"make lab PROFILE={folder.name}"
    lines = [f"To do it yourself: {lab}", f"To see an executed copy: {lab} NOTEBOOK={_shown(folder / 'notebooks')}/…"]
    return lines


def _json(path):
    """A JSON object from a file; empty where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _told(key, text):
    """A labelled paragraph, wrapped and indented."""
    label, words = f"{key.capitalize() + ':':10}", " ".join(str(text).split())
    return textwrap.fill(words or "(nothing)", 100, initial_indent=label, subsequent_indent=" " * len(label))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
