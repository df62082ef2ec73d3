"""The file a corpus grows in: one finished dialogue, one durable line.

Knows: appending, torn lines, the settings a file was begun with, and that one process writes at a time.
Does not know: what a dialogue says.
"""

import asyncio
import errno
import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from .. import artifacts
from ..errors import CourseError


class Journal:
    """A JSONL file open for appending, as a context manager.

    path     : the file; made if missing.
    settings : what the dialogues are made with. A file begun with other settings is refused.
    Raises CourseError where another process has the file open, or the settings differ.
    """

    def __init__(self, path, settings):
        self.path = Path(path)
        self.settings = settings
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        self._written = self._synced = 0  # lines
        self._syncing = asyncio.Lock()

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise CourseError(
                f"Another process is writing {artifacts.show(self.path)}. Wait for it, or stop that notebook's kernel."
            ) from None
        try:
            self._refuse_mixture()
            self.torn = set_torn_line_aside(self.path)
            self._file = self.path.open("ab", buffering=0)  # a buffer would write its rest after a failure
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_):
        self._file.close()
        self._lock.release()

    def records(self):
        """The records that are in the file already, one at a time."""
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield json.loads(line)

    def ids(self):
        """Ids of those records."""
        return {record["id"] for record in self.records()}

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
                f"Could not write {artifacts.show(self.path)} ({error.strerror}). Everything before is kept: "
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

    def _refuse_mixture(self):
        """Compare with the settings in the manifest of a file that has lines."""
        manifest = artifacts.manifest_path(self.path)
        if not (self.path.is_file() and self.path.stat().st_size and manifest.is_file()):
            return
        before = json.loads(manifest.read_text(encoding="utf-8")).get("settings", {})
        differ = [key for key in self.settings if self.settings[key] != before.get(key)]
        if differ:
            key = differ[0]
            raise CourseError(
                f"{artifacts.show(self.path)} was begun with {key} = {before.get(key)!r}, now it is "
                f"{self.settings[key]!r}. Give the new corpus another name, or move the old file away."
            )


def set_torn_line_aside(path):
    """Move a last line without its line end to `<name>.torn`; return its length in bytes (0: none).

    Only a kill in the middle of a write leaves one. It is no whole dialogue, but it is not thrown away either.
    """
    if not path.is_file():
        return 0
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    torn = content[end:]
    if torn:
        with path.with_name(path.name + ".torn").open("ab") as aside:
            aside.write(torn + b"\n")
        os.truncate(path, end)
    return len(torn)
