"""What every stage shares: errors with a remedy, where artifacts lie, atomic writes, manifests, JSONL."""

import asyncio
import codecs
import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


class CourseError(Exception):
    """What was wrong, where, and the remedy, in one or two plain sentences.

    A notebook shows the sentence alone, without the traceback, since the remedy is not in the code.
    """

    def _render_traceback_(self):
        """IPython calls this instead of printing a traceback."""
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
    root = os.environ.get("BAIZE_RUNS")
    if root:
        root = Path(root).expanduser()
    elif (_PACKAGE.parent / "pyproject.toml").is_file():
        root = _PACKAGE.parent / "runs"
    else:
        root = Path("runs")
    folder = root / profile_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"Cannot write to {show(folder)} ({error.strerror}). Set BAIZE_RUNS to a folder of yours."
        ) from error
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
    """Path of the artifact `name` ("corpus.jsonl", "adapter", …): this run's own, else the shipped one, said aloud.

    Raises CourseError where there is neither.
    """
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


def read_jsonl(path, make=dict, what="JSON object", on_fault=None):
    """Yield make(object) for each line of a JSONL file that is not blank.

    make     : raises ValueError, TypeError, AttributeError or KeyError where an object is no `what`.
    on_fault : called with (line number, reason) for a line that can't be read; it is then passed over. Without it such
               a line raises CourseError that names file, line, fault and remedy.
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
                reason = f"no {what}: {error}"
                if isinstance(error, json.JSONDecodeError) and not line.endswith(b"\n"):
                    reason += " (the last line is torn off: its writing was cut short)"
                if on_fault is None:
                    raise CourseError(f"{show(path)}:{number} is {reason}. Fix or remove that line.") from error
                on_fault(number, reason)
                continue
            yield record


_MARKS = {  # how the beginning of a file shows its encoding; UTF-32's mark begins as UTF-16's does
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ZEROS = {"0111": "utf-32-le", "1110": "utf-32-be", "0101": "utf-16-le", "1010": "utf-16-be"}


def find_encoding(path: str | Path, encoding: str | None = None) -> str:
    """Find in which encoding a text file can be read: UTF-8, UTF-16 or UTF-32, with a mark at its start or without.

    encoding : what the caller says that it is; it is tried, and nothing else.
    Raises CourseError, with the line at fault, where the file can't be read so; one that looks like cp1252 is named.
    """
    line, number = b"", 0
    try:
        with Path(path).open("rb") as file:
            start = file.read(4096)
            if encoding is None and start:
                # Of Latin script in UTF-16 every second byte is 0, in UTF-32 three of four.
                zeros = "".join(str(int(2 * start[i::4].count(0) > len(start[i::4]))) for i in range(4))
                marked = (name for mark, name in _MARKS.items() if start.startswith(mark))
                encoding = next(marked, _ZEROS.get(zeros))
            encoding = encoding or "utf-8"
            decoder = codecs.getincrementaldecoder(encoding)()
            file.seek(0)
            for number, line in enumerate(file, 1):  # noqa: B007 (the handlers below name it)
                decoder.decode(line)
            decoder.decode(b"", final=True)
            return encoding
    except OSError as error:
        raise CourseError(f"Cannot read {show(path)} ({error.strerror}). Check that you may open it.") from error
    except (LookupError, TypeError) as error:  # rot13, say, is none of bytes
        raise CourseError(f"There is no encoding {encoding!r}. Python knows 'utf-8', 'cp1252', 'utf-16' …") from error
    except UnicodeError as error:
        looks = line.decode("cp1252", errors="replace") if encoding == "utf-8" else ""
        remedy = "Save it as UTF-8, or pass encoding= with the right one."
        if looks and all(c.isascii() or c.isalpha() or c in "–—‘’‚“”„…€£°§©®«»¿¡·\xa0" for c in looks):
            near = looks[max(0, error.start - 12) : error.start + 12].strip()
            remedy = f"It looks like cp1252 ({near!r}): save it as UTF-8, or pass encoding='cp1252'."
        raise CourseError(f"{show(path)}:{number}: this is not {encoding.upper()}. {remedy}") from error


def read_text(path: str | Path, encoding: str | None = None) -> str:
    """Read a text file, see `find_encoding`; all its line ends become "\\n"."""
    return Path(path).read_text(encoding=find_encoding(path, encoding))


def duration(seconds: float) -> str:
    """Say seconds as people do: 12 s, 3 m 05 s, 1 h 02 m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} m"


def sha256(path):
    """Hex SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path):
    """Path of a temporary file that takes the name `path` when the block ends well, and is removed when it does not.

    For files that are written piece by piece: a corpus may be larger than the memory. Raises CourseError on a full
    disk; what stood under that name before is then unchanged.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:  # Windows syncs only what it may write
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # a temporary file is private, an artifact is meant to be shared
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CourseError(
            f"Could not write {show(path)} ({error.strerror or error}); what was there before is unchanged. "
            "Free some space or set BAIZE_RUNS to another disk, and try again."
        ) from error


@contextmanager
def atomic_folder(path, what, then):
    """Path of a temporary folder that takes the place of `path` when the block ends well, and is removed otherwise.

    what, then : for the CourseError of a full disk: what could not be written, and what to do about it.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield temporary
        temporary.chmod(0o755)  # made private; an artifact is meant to be shared
        for file in temporary.iterdir():
            file.chmod(0o644)
        _take_place(temporary, path)
    except Exception as error:  # safetensors reports a full disk by an error class of its own
        raise CourseError(
            f"Could not write {what} to {show(path)} ({error}); what was there before is unchanged. {then}"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_place(new, path):
    """Put the folder `new` in place of `path`; a folder can't be replaced in one move, so the old one steps aside."""
    old = new.with_name(new.name + ".old")
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_text(path, text):
    """Write `text` to `path` whole or not at all: a full disk or a kill leaves the old file as it was."""
    return write_pieces(path, [text])


def write_pieces(path, pieces):
    """Write an iterable of str to `path` as UTF-8, whole or not at all; return the path."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)
    return Path(path)


def manifest_path(artifact):
    """Where the manifest of a file or folder lies: `<name>.manifest.json` beside it."""
    artifact = Path(artifact)
    return artifact.with_name(artifact.name + ".manifest.json")


def write_manifest(artifact, made_by, sources=(), **facts):
    """Write `<artifact>.manifest.json` beside a file or folder: how it was made, from what, with what. Never a key.

    made_by : the command or notebook that makes it. sources : paths of the files it was made from, named by SHA-256.
    facts   : anything else that json can write (model, prompt, parameters, counts …).
    """
    artifact, versions = Path(artifact), {"python": platform.python_version()}
    for package in ("openai", "transformers", "peft", "torch", "xllamacpp"):  # those that shape a result
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    manifest = {
        "artifact": artifact.name,
        "made_by": made_by,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile_name(),
        "sources": [{"path": show(s), "sha256": sha256(s)} for s in sources],
        **facts,
        "versions": versions,
    }
    path = manifest_path(artifact)
    write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return path


def read_manifest(artifact) -> dict:
    """Read the manifest beside an artifact; an empty dict where there is none that can be read."""
    try:
        found = json.loads(manifest_path(artifact).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Journal:
    """A JSONL file that grows by one durable line per record, as a context manager; one process writes at a time.

    path     : the file; made if missing.
    settings : what the dialogues are made with. A file begun with other settings is refused.
    Raises CourseError where another process has the file open, or the settings differ.
    """

    def __init__(self, path, settings=None):
        self.path = Path(path)
        self.settings = settings or {}
        self._written = self._synced = 0  # lines
        self._syncing = asyncio.Lock()

    def __enter__(self):
        from filelock import FileLock, Timeout  # here: the doctor imports this module where packages are missing

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise CourseError(
                f"Another process is writing {show(self.path)}. Wait for it, or stop that notebook's kernel."
            ) from None
        try:
            self._check_settings()
            self.torn = _end_last_line(self.path)
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
        """Ids of those records."""
        return set(self.records(lambda record: record["id"], "line with an id"))

    def rewrite(self, records):
        """Put these records in place of all that is in the file, whole or not at all."""
        self._file.close()
        try:
            write_pieces(self.path, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))
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
            raise CourseError(
                f"Could not write {show(self.path)} ({error.strerror}). Everything before is kept: "
                "free some space, run the cell again, and it goes on from here."
            ) from error
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
        """Compare with the settings in the manifest of a file that has lines."""
        manifest = manifest_path(self.path)
        if not (self.path.is_file() and self.path.stat().st_size and manifest.is_file()):
            return
        before = json.loads(manifest.read_text(encoding="utf-8")).get("settings", {})
        differ = [key for key in self.settings if self.settings[key] != before.get(key)]
        if differ:
            key = differ[0]
            raise CourseError(
                f"{show(self.path)} was begun with {key} = {before.get(key)!r}, now it is "
                f"{self.settings[key]!r}. Give the new corpus another name, or move the old file away."
            )


def _end_last_line(path):
    """See that a file ends with a line end; return the length in bytes of what was set aside for that (0: nothing).

    A last line without one is whole where an editor saved the file: it gets its line end. Where a kill tore it in the
    middle of a write it is no JSON: it moves to `<name>.torn`, since nothing is thrown away.
    """
    content = path.read_bytes() if path.is_file() else b""
    last = content[content.rfind(b"\n") + 1 :]
    if not last:
        return 0
    try:
        json.loads(last)
    except ValueError:
        with path.with_name(path.name + ".torn").open("ab") as aside:
            aside.write(last + b"\n")
        os.truncate(path, len(content) - len(last))
        return len(last)
    with path.open("ab") as file:
        file.write(b"\n")
    return 0
