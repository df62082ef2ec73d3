"""Who may ask, and what each has used.

Knows: the file of keys, readable by its owner alone, and the file of usage, in which every answer is a durable line.
Does not know: HTTP, or what was asked. Keys stand in the first file only, texts in neither.
"""

import csv
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from .. import common
from ..common import CourseError, Journal


def files():
    """Paths of the keys and of the usage: in `classroom/`, beside the profiles' folders, whatever the profile."""
    folder = common.runs().parent / "classroom"
    return folder / "keys.csv", folder / "usage.jsonl"


@dataclass
class Account:
    """One student. Numbers are tokens, read and written by the model together.

    spent    : used by answered requests, earlier runs of the server included.
    reserved : the most that requests under way can take.
    answered : how many requests were answered.
    """

    name: str
    spent: int = 0
    reserved: int = 0
    answered: int = 0


class Accounts:
    """All accounts of a room, as a context manager; one process at a time.

    students : how many keys there must be at least. Those that are missing are made.
    budget   : tokens that each student may use in all.
    new      : [(student, key)] made by this call, to be shown once.
    Raises CourseError where another server has the same room open.
    """

    def __init__(self, students, budget):
        self.budget = budget
        self.keys_path, usage_path = files()
        self._journal = Journal(usage_path)
        self._students = students

    def __enter__(self):
        self._journal.__enter__()
        try:
            known = read_keys(self.keys_path)
            names = [f"student-{number:02}" for number in range(1, self._students + 1)]
            self.new = [(name, f"room-{secrets.token_urlsafe(18)}") for name in names if name not in known.values()]
            _append_private(self.keys_path, self.new)
            self._by_key = read(self.keys_path, self._journal.path)
        except BaseException:
            self._journal.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._journal.__exit__()

    def of(self, key):
        """The Account that a key opens, or None."""
        return self._by_key.get(key)

    async def charge(self, account, used):
        """Note that an answer took `used` (Tokens). Returns when the disk has it."""
        account.spent += sum(used)
        account.answered += 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._journal.write(
            {"student": account.name, "prompt": used.prompt, "completion": used.completion, "time": now}
        )
        await self._journal.durable()


def read(keys_path, usage_path):
    """{key: Account} with the sums of earlier runs. Who has no key any more is left out; their lines stay."""
    by_name = {}
    accounts = {key: by_name.setdefault(name, Account(name)) for key, name in read_keys(keys_path).items()}
    whole = usage_path.read_bytes().split(b"\n")[:-1] if usage_path.is_file() else []
    for line in map(json.loads, whole):
        if account := by_name.get(line["student"]):
            account.spent += line["prompt"] + line["completion"]
            account.answered += 1
    return accounts


def read_keys(path):
    """{key: student} of the file of keys; {} where there is none yet. Raises CourseError, naming the line."""
    if not path.is_file():
        return {}
    found = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if len(row) != 2 or not all(row) or row[1] in found:
                raise CourseError(
                    f"{common.show(path)}:{number}: here should stand a student, a comma, and a key of their own. "
                    "Mend or delete the line; a student without a key gets a new one."
                )
            found[row[1]] = row[0]
    return found


def _append_private(path, rows):
    """Add lines to a file that only its owner can read."""
    path.touch(mode=0o600)  # private before there is anything in it
    path.chmod(0o600)  # and where somebody's copy had become readable
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
