"""Where each stage's artifact lies, and the manifest beside it.

Knows: `runs/<profile>/`, the shipped `data/`, and how to write a file whole or not at all.
Does not know: what is in an artifact.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from . import profiles
from .errors import CourseError

_PACKAGE = Path(__file__).resolve().parent
# A checkout has data/ beside the package; a wheel carries it inside.
DATA = next((d for d in (_PACKAGE / "data", _PACKAGE.parent / "data") if d.is_dir()), _PACKAGE.parent / "data")

_SHIPPED = {
    "corpus.jsonl": "corpus/corpus.jsonl",
    "train.jsonl": "corpus/train.jsonl",
    "heldout.jsonl": "corpus/heldout.jsonl",
    "adapter": "adapter",
}
_MADE_BY = {
    "seeds.jsonl": "01_seed_sampling",
    "corpus.jsonl": "02_self_chat",
    "train.jsonl": "03_corpus_inspection",
    "heldout.jsonl": "03_corpus_inspection",
    "adapter": "04_lora_finetuning",
}


def runs():
    """The folder of this profile's artifacts: `$BAIZE_RUNS/<profile>`, made if missing. Default `runs/`."""
    root = os.environ.get("BAIZE_RUNS")
    if root:
        root = Path(root).expanduser()
    elif (_PACKAGE.parent / "pyproject.toml").is_file():
        root = _PACKAGE.parent / "runs"
    else:
        root = Path("runs")
    folder = root / profiles.current().name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"Cannot write to {show(folder)} ({error.strerror}). Set BAIZE_RUNS to a folder of yours."
        ) from error
    return folder


def find(name):
    """Path of the artifact `name` ("corpus.jsonl", "adapter", …): this run's own, else the shipped one, said aloud.

    Raises CourseError where there is neither.
    """
    own = runs() / name
    if own.exists():
        print(f"Using {show(own)}")
        return own
    shipped = DATA / _SHIPPED[name] if name in _SHIPPED else None
    if shipped is None or not shipped.exists():
        maker = _MADE_BY.get(name, "an earlier notebook")
        raise CourseError(f"There is no {show(own)} yet. Run notebook {maker} first: it writes it.")
    print(f"No {show(own)} yet (notebook {_MADE_BY[name]} makes it): using the shipped {show(shipped)}")
    return shipped


def show(path):
    """`path` for people: relative to the checkout or the working folder, or with ~ for the home folder."""
    path = Path(path).absolute()
    for root, prefix in ((_PACKAGE.parent, ""), (Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(root):
            return prefix + path.relative_to(root).as_posix()
    return path.name


def read_lines(path, make, what):
    """[make(object)] of the lines of a JSONL file. Raises CourseError, with file and line, for one that is no `what`.

    make : raises ValueError, TypeError, AttributeError or KeyError where an object is none.
    """
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(make(json.loads(line)))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise CourseError(f"{show(path)}:{number} is no {what}: {error}. Mend or remove it.") from error
    return found


def sha256(path):
    """Hex SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole(path):
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
            _settle(temporary)
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
def whole_folder(path, what, then):
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


def _settle(temporary):
    """Onto the disk, and readable by others: a temporary file is private, an artifact is meant to be shared."""
    with temporary.open("rb+") as file:  # Windows syncs only what it may write
        os.fsync(file.fileno())
    temporary.chmod(0o644)


def write_text(path, text):
    """Write `text` to `path` whole or not at all: a full disk or a kill leaves the old file as it was."""
    return write_pieces(path, [text])


def write_pieces(path, pieces):
    """Write an iterable of str to `path` as UTF-8, whole or not at all; return the path."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)
    return Path(path)


def versions():
    """Installed versions of the packages that shape a result, as `{package: version}`."""
    found = {"python": platform.python_version()}
    for name in ("openai", "transformers", "peft", "torch", "xllamacpp"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def manifest_path(artifact):
    """Where the manifest of a file or folder lies: `<name>.manifest.json` beside it."""
    artifact = Path(artifact)
    return artifact.with_name(artifact.name + ".manifest.json")


def write_manifest(artifact, made_by, sources=(), **facts):
    """Write `<artifact>.manifest.json` beside a file or folder: how it was made, from what, with what. Never a key.

    artifact : path of the file or folder described.
    made_by  : the command or notebook that makes it.
    sources  : paths of the files it was made from; each is named with its SHA-256.
    facts    : anything else that json can write (model, prompt, parameters, counts …).
    """
    artifact = Path(artifact)
    manifest = {
        "artifact": artifact.name,
        "made_by": made_by,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profiles.current().name,
        "sources": [{"path": show(s), "sha256": sha256(s)} for s in sources],
        **facts,
        "versions": versions(),
    }
    path = manifest_path(artifact)
    write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return path
