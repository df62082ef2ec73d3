"""What a run may cost and how fast it may go: tokens and prices, the budget and its tracker, estimates."""

import asyncio
import ipaddress
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple
from urllib.parse import urlsplit

from .common import CourseError


class Tokens(NamedTuple):
    """Tokens of one or many requests: read by the model (`prompt`) and written by it (`completion`)."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other):
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def minus(self, other):
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


@dataclass(frozen=True)
class Budget:
    """What one file may cost in all, earlier runs on it included. None stands for no cap.

    usd       : dollars. tokens : prompt and completion tokens together. dialogues : lines in a corpus file.
    price     : (dollars per million prompt tokens, per million completion tokens), for models without a known price.
    """

    usd: float | None = None
    tokens: int | None = None
    dialogues: int | None = None
    price: tuple | None = None


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


class BudgetSpent(Exception):
    """The next request might go over the budget, so it was not sent. Its text says which cap and how much is left."""


PRICES = f"genai-prices {metadata.version('genai-prices')}"  # where prices come from, to be said beside them


def price_of(teacher, price: tuple | None = None) -> tuple | None:
    """Return (dollars per million prompt tokens, per million completion tokens), or None where nobody knows.

    The embedded teacher costs nothing. Prices of known models come from the genai-prices package; an address of one's
    own (a local server, a proxy) has none, whatever the model there is called.
    """
    if price is not None:
        return price
    if teacher.engine is not None:
        return 0.0, 0.0
    if _is_local(urlsplit(teacher.base_url).hostname or ""):
        return None
    from genai_prices import Usage, calc_price

    for where in ({"provider_api_url": teacher.base_url}, {}):  # by provider and model, else by model
        try:
            usages = (Usage(input_tokens=1000), Usage(output_tokens=1000))
            return tuple(float(calc_price(u, model_ref=teacher.model, **where).total_price) * 1000 for u in usages)
        except LookupError:
            continue
    return None


def _is_local(host):
    """Whether a host is this machine or one of the same network."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost", ".home.arpa"))


def dollars(tokens: Tokens, price: tuple | None) -> float | None:
    """Return what `tokens` cost at `price`; None where the price is unknown."""
    return None if price is None else (tokens.prompt * price[0] + tokens.completion * price[1]) / 1e6


# A token is at least one byte. Roles, marks and a template's own system prompt come on top.
PER_MESSAGE, PER_REQUEST = 16, 64
NO_LIMIT = 8192  # tokens of an answer to a request that names no limit


def worst_case(body: dict) -> Tokens:
    """Return the most Tokens a request can take: every byte of it a token of its own, and an answer of full length.

    body : with "messages", or a "prompt" that is text or a list of token ids; and "max_tokens" or its newer name.
    """
    texts = [m["content"] for m in body["messages"]] if "messages" in body else [body["prompt"]]
    read = sum(len(t.encode() if isinstance(t, str) else t) + PER_MESSAGE for t in texts) + PER_REQUEST
    wrote = body.get("max_completion_tokens") or body.get("max_tokens") or NO_LIMIT
    return Tokens(read, wrote * (body.get("n") or 1))


class BudgetTracker:
    """What a run has spent, and what requests under way might still cost.

    The rule: before a request is sent, its worst case is set aside. If that does not fit any more, it is not sent.
    budget : a Budget. price : see `price_of`. spent : Tokens of earlier runs on the same file.
    Raises CourseError for a cap in dollars where no price is known.
    """

    def __init__(self, budget, price, spent):
        if budget.usd is not None and price is None:
            raise CourseError(
                "This model's price is unknown, so a budget in dollars can't be kept. Give the price from your "
                "provider's page, Budget(usd=…, price=(per million tokens in, per million out)), or cap the "
                "tokens: Budget(tokens=…)."
            )
        self.budget, self.price, self.spent = budget, price, spent
        self.reserved = Tokens()
        self._changed = asyncio.Event()
        self._over = ""

    async def reserve(self, worst):
        """Set the worst case of a request aside; wait if it might fit once requests under way are paid.

        Raises BudgetSpent if it can't fit any more.
        """
        caps = self.budget
        while True:
            after = self.spent.plus(self.reserved).plus(worst)
            fits = caps.tokens is None or sum(after) <= caps.tokens
            fits = fits and (caps.usd is None or dollars(after, self.price) <= caps.usd)
            if fits and not self._over:
                break
            if self.reserved == Tokens() or self._over:
                # From here on not even a small request leaves: the run is about to stop, and would cut it off.
                parts = [f"{sum(self.spent):,} of {caps.tokens:,} tokens"] if caps.tokens is not None else []
                parts += [f"${self.usd:.4f} of ${caps.usd:.4f}"] if caps.usd is not None else []
                self._over = self._over or (
                    f"Budget: {' and '.join(parts)} spent, and the next request might take {sum(worst):,} tokens. "
                    "Everything so far is kept; run again with a larger budget to go on."
                )
                raise BudgetSpent(self._over)
            self._changed.clear()
            await self._changed.wait()
        self.reserved = self.reserved.plus(worst)

    def pay(self, worst, bill):
        """A request is over: its worst case is set free, its bill is spent."""
        self.reserved = self.reserved.minus(worst)
        self.spent = self.spent.plus(bill)
        self._changed.set()

    @property
    def capped(self):
        """Whether there is a cap on tokens or dollars."""
        return self.budget.tokens is not None or self.budget.usd is not None

    @property
    def usd(self):
        """Dollars spent, or None where the price is unknown."""
        return dollars(self.spent, self.price)


# Tokens per second, to say "minutes" before anything was measured: the embedded engine in all, on two cores (see
# benchmarks/selfchat.py), and one stream of a hosted model, a cautious guess.
EMBEDDED_SPEED, STREAM_SPEED = 70, 40


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for a run, if each request succeeds at the first attempt.

    dialogues : number; 0 for plain requests. requests : number.
    prompt_tokens, completion_tokens : tokens in and out, all requests together.
    usd : dollars; 0.0 for the embedded teacher, None where the model's price is unknown.
    minutes : a rough guess; None for a batch, which is done within 24 hours.
    """

    dialogues: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    minutes: float | None

    @classmethod
    def of(cls, bounds, teacher, dialogues=0, price=None, concurrency=16, limits=None):
        """Add up bounds, [(requests, tokens in, tokens out)]. price : as in Budget."""
        requests, read, written = (sum(column) for column in zip(*bounds, strict=True)) if bounds else (0, 0, 0)
        written += requests * teacher.room
        limits = limits or Limits()
        speed = EMBEDDED_SPEED if teacher.engine is not None else STREAM_SPEED * concurrency
        minutes = max(
            written / speed / 60,
            requests / (limits.requests_per_minute or float("inf")),
            (read + written) / (limits.tokens_per_minute or float("inf")),
        )
        usd = dollars(Tokens(read, written), price_of(teacher, price))
        return cls(dialogues, requests, read, written, usd, minutes)

    def __str__(self):
        digits = 2 if self.usd is None or self.usd >= 1 else 4
        price = {None: "price unknown", 0: "no cost"}.get(self.usd, f"at most ${self.usd or 0:,.{digits}f}")
        if self.minutes is None:
            time = "within 24 hours"
        elif self.minutes < 1.5:
            time = "roughly a minute"
        else:
            hours = self.minutes >= 120
            time = f"roughly {self.minutes / 60:.0f} hours" if hours else f"roughly {self.minutes:.0f} minutes"
        begin = f"{self.dialogues:,} dialogues: " if self.dialogues else ""
        return (
            f"{begin}at most {self.requests:,} requests, {self.prompt_tokens:,} tokens in, "
            f"{self.completion_tokens:,} tokens out; {price}; {time}"
        )


def text_tokens(text):
    """Return a bound on the tokens of a message: one per 3 bytes, more than English needs, and 8 for its marks."""
    return len(text.encode()) // 3 + 8


def estimate_requests(requests, teacher, price=None, concurrency=16, limits=None):
    """Return the Estimate of plain requests, [(messages, max_tokens)], before anything is spent."""
    bounds = [(1, sum(text_tokens(m["content"]) for m in messages), most) for messages, most in requests]
    return Estimate.of(bounds, teacher, price=price, concurrency=concurrency, limits=limits)
