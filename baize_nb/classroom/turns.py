"""Whose request is next: a fair share of tokens for each student, however many requests each has waiting.

Knows: who waits, what each has had, and what the next request may cost. Does not know: HTTP or models.
A free place goes to the student who has had the fewest tokens while others were asking. Who was served alone for a
moment is not served again until the others have caught up; who comes back from a pause starts level with the others,
since a pause earns no credit. (In the literature: start-time fair queueing.)
"""

import asyncio
from collections import Counter, defaultdict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class OverBudget(Exception):
    """The student's tokens are used up, or too few for this request."""


class Closed(Exception):
    """The server is stopping; whoever still waits should ask again later."""


@dataclass(eq=False)
class Request:
    """One request: its Account, the most tokens that it can take, and what it `used`, which its maker fills in."""

    account: object
    worst: int
    used: int
    granted: asyncio.Future = field(repr=False)

    def fits(self, budget, under_way):
        """Whether the account can pay for it; under_way: tokens that are set aside already."""
        return self.account.spent + under_way + self.worst <= budget


class Turns:
    """Lets at most `places` requests go at a time. `budget`: tokens that each account may use."""

    def __init__(self, places, budget):
        self.budget = budget
        self.waiting = defaultdict(deque)  # {name: requests}, oldest first
        self.running = Counter()
        self._free, self._open = places, True
        self._had = Counter()  # {name: tokens}, as far as they count for whose turn it is
        self._level = 0  # what those present have had at least
        self._last, self._number = Counter(), 0

    @asynccontextmanager
    async def turn(self, account, worst):
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

    def close(self):
        """Send away all who wait, and everybody who comes from now on."""
        self._open = False
        for line in self.waiting.values():
            for request in line:
                if not request.granted.done():
                    request.granted.set_exception(Closed)
            line.clear()

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
        for line in self.waiting.values():
            while line and (line[0].granted.done() or not line[0].fits(self.budget, 0)):
                granted = line.popleft().granted
                if not granted.done():  # given up by its student a moment ago
                    granted.set_exception(OverBudget)
        while self._free and (line := self._next()):
            request = line.popleft()
            name = request.account.name
            request.account.reserved += request.worst
            self.running[name] += 1
            self._free -= 1
            self._number += 1
            self._last[name] = self._number
            request.granted.set_result(None)

    def _next(self):
        """The line of the student whose turn it is, or None. Who must first see what is under way, waits."""
        ready = [
            (self._had[name] + line[0].account.reserved, self._last[name], name)
            for name, line in self.waiting.items()
            if line and line[0].fits(self.budget, line[0].account.reserved)
        ]
        return self.waiting[min(ready)[2]] if ready else None
