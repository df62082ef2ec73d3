"""What every stage shares: errors with a remedy, where artifacts lie, atomic writes, manifests, JSONL."""

import asyncio
import errno
import hashlib
import json
import os
import platform
import shutil
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


class CourseError(Exception):
    """What was wrong, where, and the remedy, in one or two plain sentences."""

    def _render_traceback_(self):  # a notebook shows this alone: the remedy is not in the code
        return [f"CourseError: {self}"]


_PACKAGE = Path(__file__).resolve().parent
# A checkout has data/ beside the package; a wheel carries it inside.
DATA = next((d for d in (_PACKAGE / "data", _PACKAGE.parent / "data") if d.is_dir()), _PACKAGE.parent / "data")

_ARTIFACTS = {  # name: (where the shipped one lies in data/, the notebook that makes it)
    "seeds.jsonl": (None, "01_seed_sampling"),
    "corpus.jsonl": ("corpus/corpus.jsonl", "02_self_chat"),
    "train.jsonl": ("corpus/train.jsonl", "03_corpus_inspection"),
    "heldout.jsonl": ("corpus/heldout.jsonl", "03_corpus_inspection"),
    "adapter": ("adapter", "04_lora_finetuning"),
}


def profile_name():
    """The profile that `BAIZE_PROFILE` names; "laptop" where it is not set."""
    return os.environ.get("BAIZE_PROFILE") or "laptop"


def runs():
    """The folder of this profile's artifacts: `$BAIZE_RUNS/<profile>`, made if missing. Default `runs/`."""
    in_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    default = _PACKAGE.parent / "runs" if in_checkout else "runs"
    folder = Path(os.environ.get("BAIZE_RUNS") or default).expanduser() / profile_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Set BAIZE_RUNS to a folder of yours."
        raise CourseError(f"Cannot write to {show(folder)} ({error.strerror}). {remedy}") from error
    return folder


def scratch(path):
    """The place of something large that can be made anew: `path`, or the same place under `$BAIZE_SCRATCH` if set.

    On Colab that keeps a small Drive from filling up. A path outside of `runs()` stays what it is.
    """
    root, path = os.environ.get("BAIZE_SCRATCH"), Path(path)
    if not root or not path.absolute().is_relative_to(runs().absolute()):
        return path
    return Path(root).expanduser() / profile_name() / path.absolute().relative_to(runs().absolute())


def find(name):
    """Path of the artifact `name` ("corpus.jsonl", "adapter", …): this run's own, else the shipped one, said aloud."""
    own = runs() / name
    if own.exists():
        print(f"Using {show(own)}")
        return own
    shipped, maker = _ARTIFACTS.get(name, (None, "an earlier notebook"))
    if shipped is None or not (DATA / shipped).exists():
        raise CourseError(f"There is no {show(own)} yet. Run notebook {maker} first: it writes it.")
    print(f"No {show(own)} yet (notebook {maker} makes it): using the shipped {show(DATA / shipped)}")
    return DATA / shipped


def show(path):
    """`path` for people: relative to the checkout or the working folder, or with ~ for the home folder."""
    path = Path(path).absolute()
    for root, prefix in ((_PACKAGE.parent, ""), (Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(root):
            return prefix + path.relative_to(root).as_posix()
    return path.name


def duration(seconds: float) -> str:
    """Say seconds as people do: 12 s, 3 m 05 s, 1 h 02 m."""
    minutes, seconds = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds} s"
    if minutes < 60:
        return f"{minutes} m {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} m"


def sha256(path):
    """Hex SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_jsonl(path, make=dict, what="JSON object"):
    """Yield make(object) for each line of a JSONL file that is not blank.

    make : raises ValueError, TypeError, AttributeError or KeyError where an object is no `what`.
    A line that can't be read raises CourseError, which names file, line, fault and remedy.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 (closed below: only its opening is tried here)
    except OSError as error:
        raise CourseError(f"Cannot read {show(path)} ({error.strerror}).") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = make(json.loads(line))
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
                fault = f"{show(path)}:{number} is no {what}: {error}"
                if isinstance(error, json.JSONDecodeError) and not line.endswith(b"\n"):
                    fault += " (the last line is torn off: its writing was cut short)"
                raise CourseError(f"{fault}. Fix or remove that line.") from error
            yield record


def read_text(path: str | Path, encoding: str | None = None) -> str:
    """Read a text file in UTF-8, UTF-16 or UTF-32, or in `encoding`; all its line ends become "\n".

    Raises CourseError, with the line at fault, where the file can't be read so; one that looks like cp1252 is named.
    """
    content = b""
    try:
        content = Path(path).read_bytes()
        encoding = encoding or json.detect_encoding(content)
        text = content.decode(encoding)
    except OSError as error:
        raise CourseError(f"Cannot read {show(path)} ({error.strerror}). Check that you may open it.") from error
    except (LookupError, TypeError) as error:  # rot13, say, is none of bytes
        raise CourseError(f"There is no encoding {encoding!r}. Python knows 'utf-8', 'cp1252', 'utf-16' …") from error
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        number = content.count(b"\n", 0, start) + 1
        line = content.split(b"\n")[number - 1].decode("cp1252", errors="replace").strip()
        remedy = "Save it as UTF-8, or pass encoding= with the right one."
        if encoding == "utf-8" and all(c.isascii() or c.isalpha() or c in _SIGNS for c in line):
            remedy = f"It looks like cp1252 ({line!r:.40}): save it as UTF-8, or pass encoding='cp1252'."
        raise CourseError(f"{show(path)}:{number}: this is not {encoding.upper()}. {remedy}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


_SIGNS = "–—‘’‚“”„…€£°§©®«»¿¡·\xa0"  # those of cp1252 that people write
_FREE = "Free some space or set BAIZE_RUNS to another disk, and try again."


@contextmanager
def atomic_write(path, what="", then=_FREE, fault=OSError):
    """Path of a temporary file or folder, which the block makes; it takes the name `path` when that ends well.

    what, then : of the CourseError on a full disk: what could not be written, and what to do about it.
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{kind}{os.getpid()}") for kind in ("", "old"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for file in temporary.rglob("*"):
            file.chmod(0o644)  # safetensors writes private ones
        if temporary.is_file():
            with temporary.open("rb+") as file:  # Windows syncs only what it may write
                os.fsync(file.fileno())
        elif path.exists():  # a folder can't be replaced in one move
            path.rename(old)
        temporary.replace(path)
    except fault as error:
        where = f"{what} to {show(path)}" if what else show(path)
        reason = getattr(error, "strerror", None) or error
        raise CourseError(f"Could not write {where} ({reason}); what was there before is unchanged. {then}") from error
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        if temporary.is_file():
            temporary.unlink()
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_folder(path, what, then):
    """As `atomic_write`, of a folder."""
    with atomic_write(path, what, then, Exception) as temporary:  # safetensors has an error of its own for a full disk
        temporary.mkdir()
        yield temporary


def write_text(path, text):
    """Write `text`, a str or an iterable of str, to `path` as UTF-8; return the path."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines([text] if isinstance(text, str) else text)
    return Path(path)


def manifest_path(artifact):
    """Where the manifest of a file or folder lies: `<name>.manifest.json` beside it."""
    artifact = Path(artifact)
    return artifact.with_name(artifact.name + ".manifest.json")


def write_manifest(artifact, made_by, sources=(), **facts):
    """Write the manifest of a file or folder: how it was made, from what, with what. Never a key. Return its path.

    made_by : the command or notebook that makes it. sources : paths of the files it was made from, named by SHA-256.
    """
    path, versions = manifest_path(artifact), {"python": platform.python_version()}
    for package in ("openai", "transformers", "peft", "torch", "xllamacpp"):  # those that shape a result
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    manifest = {
        "artifact": Path(artifact).name,
        "made_by": made_by,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile_name(),
        "sources": [{"path": show(s), "sha256": sha256(s)} for s in sources],
        **facts,
        "versions": versions,
    }
    return write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def read_manifest(artifact) -> dict:
    """Read the manifest beside an artifact; an empty dict where there is none that can be read."""
    try:
        found = json.loads(manifest_path(artifact).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Journal:
    """A JSONL file that grows by one durable line per record, as a context manager; one process writes at a time.

    settings : what the records are made with.
    Raises CourseError where another process has the file open, or the file was begun with other settings.
    """

    def __init__(self, path, settings=None):
        self.path = Path(path)
        self.settings = settings or {}
        self._written = self._synced = 0  # records
        self._syncing = asyncio.Lock()

    def __enter__(self):
        from filelock import FileLock, Timeout  # here: the doctor imports this module where packages are missing

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            remedy = "Wait for it, or stop that notebook's kernel."
            raise CourseError(f"Another process is writing {show(self.path)}. {remedy}") from None
        try:
            self._check_settings()
            self._end_last_line()
            self._file = self.path.open("ab", buffering=0)  # a buffer would write its rest after a failure
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_):
        self._file.close()
        self._lock.release()

    def records(self, make=dict, what="JSON object"):
        """Yield the records that are in the file already, see `read_jsonl`."""
        return read_jsonl(self.path, make, what)

    def ids(self):
        return set(self.records(lambda record: record["id"], "line with an id"))

    def rewrite(self, records):
        """Put these records in place of all that is in the file, whole or not at all."""
        self._file.close()
        try:
            write_text(self.path, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        finally:
            self._file = self.path.open("ab", buffering=0)

    def append(self, record):
        """Write one record and have the disk confirm it. A write that fails leaves the file as it was."""
        self.write(record)
        os.fsync(self._file.fileno())

    def write(self, record):
        """Write one record: safe from a kill of this process at once, from a power cut after `durable`."""
        size = self._file.seek(0, os.SEEK_END)
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", errors="replace")
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.truncate(self.path, size)
            remedy = "Everything before is kept: free some space, run the cell again, and it goes on from here."
            raise CourseError(f"Could not write {show(self.path)} ({error.strerror}). {remedy}") from error
        self._written += 1

    async def durable(self):
        """Return when all that is written is on the disk. One sync, in a thread, serves everybody who waits."""
        mine = self._written
        async with self._syncing:
            if self._synced < mine:
                written = self._written
                await asyncio.to_thread(os.fsync, self._file.fileno())
                self._synced = written

    def _check_settings(self):
        begun = self.path.is_file() and self.path.stat().st_size > 0
        before = begun and read_manifest(self.path).get("settings")
        for key, value in self.settings.items():
            if before and value != before.get(key):
                fault = f"{show(self.path)} was begun with {key} = {before.get(key)!r}, now it is {value!r}."
                raise CourseError(f"{fault} Give the new corpus another name, or move the old file away.")

    def _end_last_line(self):
        """Give the last line its end, which some editors leave out; one that a kill tore moves to `<name>.torn`."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        last = content.rpartition(b"\n")[2]
        try:
            if last:
                json.loads(last)
                with self.path.open("ab") as file:
                    file.write(b"\n")
        except ValueError:
            with self.path.with_name(f"{self.path.name}.torn").open("ab") as aside:
                aside.write(last + b"\n")
            os.truncate(self.path, len(content) - len(last))
