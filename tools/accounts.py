"""Who may ask the room's teacher, what each student has used, and whose request is next.

Keys stand in one file, readable by its owner alone; usage in another, a durable line for each answer. No texts.
"""

import asyncio
import csv
import hashlib
import itertools
import json
import secrets
from collections import Counter, defaultdict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from baize_nb import common
from baize_nb.answers import Tokens
from baize_nb.common import CourseError, Journal

HEADERS = {"key", "keys", "api key", "api_key", "token", "schlüssel", "clé", "clave", "chiave"}  # of the last column


def files() -> tuple[Path, Path]:
    """Locate the keys and the usage: in `classroom/`, beside the profiles' folders, whatever the profile."""
    folder = common.runs().parent / "classroom"
    return folder / "keys.csv", folder / "usage.jsonl"


@dataclass
class Account:
    """One student. Numbers are tokens, read and written by the model together.

    mark     : a hash of the key. Names may be changed in keys.csv: what was used stays with the key.
    spent    : used by answered requests, earlier runs of the server included.
    reserved : the most that requests under way can take.
    answered : how many requests were answered.
    """

    name: str
    mark: str = ""
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

    def __init__(self, students: int, budget: int):
        self.budget, self._students = budget, students
        self.keys_path, usage_path = files()
        self._journal = Journal(usage_path)

    def __enter__(self):
        self._journal.__enter__()
        try:
            keys = read_keys(self.keys_path)
            free = (name for n in itertools.count(1) if (name := f"student-{n:02}") not in keys.values())
            lacking = max(0, self._students - len(keys))
            self.new = [(name, f"room-{secrets.token_urlsafe(18)}") for name in itertools.islice(free, lacking)]
            if self.new:
                _write_keys(self.keys_path, keys | {key: name for name, key in self.new})
            self.keys_path.chmod(0o600)  # where somebody's copy had become readable
            self._by_key = read_accounts()
        except BaseException:
            self._journal.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._journal.__exit__()

    def of(self, key: str) -> Account | None:
        """Find the account that a key opens."""
        return self._by_key.get(key)

    async def charge(self, account: Account, used: Tokens) -> None:
        """Note that an answer took `used`. Returns when the disk has it."""
        account.spent += sum(used)
        account.answered += 1
        about = {"student": account.name, "account": account.mark} | used._asdict()
        self._journal.write(about | {"time": datetime.now(UTC).isoformat(timespec="seconds")})
        await self._journal.durable()


def read_accounts() -> dict[str, Account]:
    """Read {key: Account} with the sums of earlier runs. Who has no key any more is left out; their lines stay."""
    keys_path, usage_path = files()
    by_key, by_name, by_mark = {}, {}, {}
    for key, name in read_keys(keys_path).items():
        mark = hashlib.sha256(key.encode()).hexdigest()[:16]
        by_key[key] = by_mark[mark] = by_name.setdefault(name, Account(name, mark))
    whole = usage_path.read_bytes().split(b"\n")[:-1] if usage_path.is_file() else []
    for line in map(json.loads, whole):
        if account := by_mark.get(line.get("account")) or by_name.get(line["student"]):
            account.spent += line["prompt"] + line["completion"]
            account.answered += 1
    return by_key


def read_keys(path: Path) -> dict[str, str]:
    """Read {key: student} from the file of keys; {} where there is none yet. Raises CourseError, naming the line.

    It may have been in a spreadsheet: with a header, with ; or tabs between the cells, in whatever encoding.
    """
    if not path.is_file():
        return {}
    try:
        text = common.read_text(path)
    except CourseError:
        text = common.read_text(path, "cp1252")
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        delimiter = next((mark for mark in "\t;" if mark in line), ",")
        cells = [cell.strip() for row in csv.reader([line], delimiter=delimiter) for cell in row if cell.strip()]
        if not cells or (number == 1 and cells[-1].lower() in HEADERS):
            continue
        # One made here is known by its beginning, wherever somebody has put further columns.
        keys = [cell for cell in cells if cell.startswith("room-")] or cells[1:]
        if len(cells) < 2 or len(keys) != 1 or keys[0] in found:
            raise CourseError(
                f"{common.show(path)}:{number}: here should stand a student, a comma, and a key of their own. "
                "Mend or delete the line; a student without a key gets a new one."
            )
        found[keys[0]] = next(cell for cell in cells if cell != keys[0])
    return found


def _write_keys(path, keys):
    """Write the file anew, readable by its owner alone from the first moment on, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    with new.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows((name, key) for key, name in keys.items())
    new.replace(path)


class OverBudget(Exception):
    """The student's tokens are used up, or too few for this request."""


class Closed(Exception):
    """The server is stopping; whoever still waits should ask again later."""


@dataclass(eq=False)
class Request:
    """One request: its Account, the most tokens that it can take, and what it `used`, which its maker fills in."""

    account: Account
    worst: int
    used: int
    granted: asyncio.Future = field(repr=False)

    def fits(self, budget: int, under_way: int) -> bool:
        """Tell whether the account can pay for it; under_way: tokens that are set aside already."""
        return self.account.spent + under_way + self.worst <= budget


class FairQueue:
    """Lets at most `places` requests go at a time, a fair share of tokens to each student, however many wait.

    budget : tokens that each account may use.
    A free place goes to the student who has had the fewest tokens while others were asking. Who was served alone for a
    moment is not served again until the others have caught up; who comes back from a pause starts level with the
    others, since a pause earns no credit. (In the literature: start-time fair queueing.)
    """

    def __init__(self, places: int, budget: int):
        self.budget = budget
        self.waiting = defaultdict(deque)  # {name: requests}, oldest first
        self.running = Counter()
        self._free, self._open = places, True
        self._had = Counter()  # {name: tokens}, as far as they count for whose turn it is
        self._level = 0  # what those present have had at least
        self._last, self._number = Counter(), 0

    @asynccontextmanager
    async def turn(self, account: Account, worst: int):
        """Wait for a turn, and hold it for the length of the block; yields the Request.

        worst : the most tokens that it can take; set aside meanwhile, so that a budget is never exceeded.
        Raises OverBudget at once where no waiting would help, and Closed when the server stops.
        """
        if not self._open:
            raise Closed
        request = Request(account, worst, worst, asyncio.get_running_loop().create_future())
        if not self._present(account.name):
            self._had[account.name] = max(self._had[account.name], self._level)
        self.waiting[account.name].append(request)
        self._hand_out()
        try:
            await request.granted
            yield request
        finally:
            self._leave(request)

    def close(self) -> None:
        """Send away all who wait, and everybody who comes from now on."""
        self._open = False
        for requests in self.waiting.values():
            for request in requests:
                if not request.granted.done():
                    request.granted.set_exception(Closed)
            requests.clear()

    def _present(self, name):
        return bool(self.running[name] or self.waiting[name])

    def _leave(self, request):
        """A request is over: answered, failed, or given up while it waited."""
        name, granted = request.account.name, request.granted
        if request in self.waiting[name]:
            self.waiting[name].remove(request)
        elif granted.done() and not granted.cancelled() and granted.exception() is None:
            self._had[name] += request.used
            self._level = max(self._level, min(self._had[n] for n in self._had if self._present(n)))
            request.account.reserved -= request.worst
            self.running[name] -= 1
            self._free += 1
        self._hand_out()

    def _hand_out(self):
        """Give free places to those whose turn it is, and refuse what can never be paid."""
        for requests in self.waiting.values():
            while requests and (requests[0].granted.done() or not requests[0].fits(self.budget, 0)):
                granted = requests.popleft().granted
                if not granted.done():  # given up by its student a moment ago
                    granted.set_exception(OverBudget)
        while self._free and (requests := self._next()):
            request = requests.popleft()
            name = request.account.name
            request.account.reserved += request.worst
            self.running[name] += 1
            self._free -= 1
            self._number += 1
            self._last[name] = self._number
            request.granted.set_result(None)

    def _next(self):
        """The requests of the student whose turn it is, or None. Who must first see what is under way, waits."""
        ready = [
            (self._had[name] + requests[0].account.reserved, self._last[name], name)
            for name, requests in self.waiting.items()
            if requests and requests[0].fits(self.budget, requests[0].account.reserved)
        ]
        return self.waiting[min(ready)[2]] if ready else None
