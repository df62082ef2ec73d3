"""Not faster than an endpoint allows: requests and tokens per minute, and the pauses that it asks for."""

import asyncio
import email.utils
import re
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Limits:
    """How patient a run is with its endpoint.

    requests_per_minute, tokens_per_minute : None where the provider names none. Tokens count in and out.
    attempts   : how often one request is tried before its item is given up.
    first_wait : seconds before the second attempt; doubled for each one after, up to 30.
    timeout    : seconds until a request without an answer is given up.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    attempts: int = 8
    first_wait: float = 0.5
    timeout: float = 600


WINDOW = 60 * 1.02  # seconds; the endpoint's clock starts when a request arrives, ours when it leaves
LONGEST_WAIT = 30  # seconds between two attempts, where the endpoint names no time
LONGEST_PAUSE = 600  # seconds; who asks for more is told to a person, not slept through


class RateLimiter:
    """Lets requests go at most so many, and so many tokens, in any `WINDOW`.

    When the endpoint says "too many" (HTTP 429), everybody waits, and from then on requests leave further apart;
    each success brings them a little closer again.
    """

    def __init__(self, requests=None, tokens=None):
        self.requests, self.tokens = requests, tokens
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
        """A request was answered and took `tokens`, not the worst case: others may leave a little closer together."""
        if self._sent and entry[0] >= self._sent[0][0]:
            self._sum += tokens - entry[1]
        entry[1] = tokens
        self.gap = 0.0 if self.gap < 0.002 else self.gap * 0.9

    def refused(self, entry, seconds):
        """The endpoint says "too many": nobody sends for `seconds`; after that, twice as far apart as before.

        Once per crowd: of requests that left together, only the first refusal slows us down.
        """
        now = time.monotonic()
        self._until = max(self._until, now + seconds)
        if entry[0] > self._slowed:
            self._slowed, self.gap = now, min(2.0, max(2 * self.gap, 0.02))

    def _wait(self, now, tokens):
        """Seconds until a request of `tokens` may leave; 0 or less: now."""
        while self._sent and self._sent[0][0] + WINDOW <= now:
            self._sum -= self._sent.popleft()[1]
        wait = max(self._until - now, self._last + self.gap - now)
        full = self.requests is not None and len(self._sent) >= self.requests
        # One request larger than the whole limit goes alone: waiting longer would not make it smaller.
        heavy = self.tokens is not None and self._sent and self._sum + tokens > self.tokens
        if full or heavy:
            wait = max(wait, self._sent[0][0] + WINDOW - now)
        return wait


_AGAIN = re.compile(r"(?:again|retry)\W+(?:in|after)\W+([\d.]+ ?[a-zµ]+(?:[\d.]+[a-zµ]+)*)", re.IGNORECASE)


def asked_pause(headers, words: str = "") -> float | None:
    """Return the seconds that an endpoint asks us to wait; None where it does not say.

    headers : Retry-After (RFC 9110) and its variant in milliseconds, or the reset time of each limit that is used up,
              in seconds, as "6m0s", as a date, as a moment in ISO form or as seconds or milliseconds since 1970.
    words   : those of the fault: "Please try again in 7m12s".
    """
    if (milliseconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (seconds := _seconds(headers.get("retry-after"))) is not None:
        return seconds
    resets = []
    for name, value in headers.items():
        if "ratelimit" in name.lower() and "reset" in name.lower():
            left = headers.get(name.lower().replace("reset", "remaining"))
            if left is not None and _seconds(left) == 0:
                resets.append(_seconds(value))
    if found := re.search(
        r"(?:again|retry)\W+(?:in|after)\W+([\d.]+ ?[a-zµ]+(?:[\d.]+[a-zµ]+)*)", words, re.IGNORECASE
    ):
        resets.append(_seconds(found[1]))
    return max((seconds for seconds in resets if seconds is not None), default=None)


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _seconds(text):
    """Seconds from now, of a number, a duration ("1d2h", "6m0s", "20ms", "5 seconds") or a moment; else None."""
    text = (text or "").strip()
    try:
        number = float(text)
        if number >= 1.5e9:  # a moment: seconds, or milliseconds, since 1970
            number = number / (1000 if number >= 1.5e12 else 1) - time.time()
        return max(0.0, number) if number < float("inf") else None  # not nan either
    except ValueError:
        pass
    plain = re.sub(r" ?(d|h|m|s)(?:ay|our|in|inute|ec|econd)s?\b", r"\1", text)
    if re.fullmatch(r"(?:[\d.]+(?:ms|us|µs|ns|d|h|m|s))+", plain):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([a-zµ]+)", plain))
    try:
        moment = datetime.fromisoformat(text)
        return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - time.time())
    except ValueError:
        date = email.utils.parsedate_tz(text)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
