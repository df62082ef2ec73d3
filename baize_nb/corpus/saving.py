"""Files written piece by piece, and yet whole or not at all: a corpus may be larger than the memory.

Knows: temporary files. Does not know: formats. For one short text there is `artifacts.write_text`.
"""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .. import artifacts
from ..errors import CourseError


@contextmanager
def whole(path):
    """Path of a temporary file that takes the name `path` when the block ends well, and is removed when it does not.

    Raises CourseError on a full disk; what stood under that name before is then unchanged.
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
            f"Could not write {artifacts.show(path)} ({error.strerror or error}); what was there before is unchanged. "
            "Free some space, or write to another disk, and try again."
        ) from error


def write_pieces(path, pieces):
    """Write an iterable of str to `path` as UTF-8, whole or not at all; return the path."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)
    return Path(path)


def _settle(temporary):
    """Onto the disk, and readable by others: a temporary file is private, an artifact is meant to be shared."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o644)
