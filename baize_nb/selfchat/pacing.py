"""Not faster than the endpoint allows: requests and tokens per minute, and pauses when it says "too many".

Knows: clocks and limits. Does not know: what a request says. Built in notebook 02.
"""

import asyncio
import email.utils
import re
import time
from collections import deque
from dataclasses import dataclass

MARGIN = 1.02  # the endpoint's clock starts when a request arrives, ours when it leaves
LONGEST_PAUSE = 600  # seconds; who asks for more is told to a person, not slept through


@dataclass(frozen=True)
class Limits:
    """How patient a run is with its endpoint.

    requests_per_minute, tokens_per_minute : None where the provider names none. Tokens count in and out.
    attempts   : how often one request is tried before its seed is recorded as failed.
    first_wait : seconds before the second attempt; doubled for each one after, up to 30.
    timeout    : seconds until a request without an answer is given up.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    attempts: int = 8
    first_wait: float = 0.5
    timeout: float = 600


class Pace:
    """Lets requests go at most so many, and so many tokens, in any `window` seconds.

    When the endpoint says "too many" (HTTP 429), everybody waits, and from then on requests leave further apart;
    each success brings them a little closer again.
    """

    def __init__(self, requests=None, tokens=None, window=60.0):
        self.requests, self.tokens, self.window = requests, tokens, window * MARGIN
        self.gap = 0.0  # seconds between two requests, learned
        self._sent = deque()  # [time, tokens] of the requests in the window, oldest first
        self._sum = 0
        self._last = self._until = self._slowed = 0.0
        self._queue = asyncio.Lock()  # first come, first served

    async def turn(self, tokens):
        """Wait until a request of at most `tokens` may leave; return its entry for `correct`."""
        async with self._queue:
            while (wait := self._wait(time.monotonic(), tokens)) > 0:
                await asyncio.sleep(min(wait, 0.25))  # not all at once: a smaller bill may make room meanwhile
            self._last = time.monotonic()
            entry = [self._last, tokens]
            self._sent.append(entry)
            self._sum += tokens
            return entry

    def correct(self, entry, tokens):
        """A request took `tokens`, not the worst case that was counted for it."""
        if self._sent and entry[0] >= self._sent[0][0]:
            self._sum += tokens - entry[1]
        entry[1] = tokens

    def refused(self, entry, seconds):
        """The endpoint says "too many": nobody sends for `seconds`; after that, twice as far apart as before.

        Once per crowd: of requests that left together, only the first refusal slows us down.
        """
        now = time.monotonic()
        self._until = max(self._until, now + seconds)
        if entry[0] > self._slowed:
            self._slowed, self.gap = now, min(2.0, max(2 * self.gap, 0.02))

    def success(self):
        """An answer came: requests may leave a little closer together."""
        self.gap = 0.0 if self.gap < 0.002 else self.gap * 0.9

    def _wait(self, now, tokens):
        """Seconds until a request of `tokens` may leave; 0 or less: now."""
        while self._sent and self._sent[0][0] + self.window <= now:
            self._sum -= self._sent.popleft()[1]
        wait = max(self._until - now, self._last + self.gap - now)
        full = self.requests is not None and len(self._sent) >= self.requests
        # One request larger than the whole limit goes alone: waiting longer would not make it smaller.
        heavy = self.tokens is not None and self._sent and self._sum + tokens > self.tokens
        if full or heavy:
            wait = max(wait, self._sent[0][0] + self.window - now)
        return wait


def asked_pause(headers):
    """Seconds that an endpoint asks us to wait, by its headers; None where it does not say.

    Retry-After (seconds or a date, RFC 9110), its variant in milliseconds, or the reset time of an exhausted limit.
    """
    if milliseconds := _number(headers.get("retry-after-ms")):
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is not None:
        seconds = _number(value)
        if seconds is None and (date := email.utils.parsedate_tz(value)):
            seconds = email.utils.mktime_tz(date) - time.time()
        if seconds is not None:
            return max(0.0, seconds)
    resets = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max(resets, default=None)


def _number(text):
    try:
        return float(text) if 0 <= float(text) < float("inf") else None
    except (TypeError, ValueError):
        return None


_UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}


def _duration(text):
    """Seconds of a duration such as "6m0s", "1.5s" or "20ms"."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))
