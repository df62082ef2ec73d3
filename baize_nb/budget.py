"""What a run may cost, before anything is spent."""

import math
from dataclasses import dataclass
from importlib import metadata

from .client import Limits, Tokens, dollars, price_of
from .teacher import THOUGHTS

PRICES = f"genai-prices {metadata.version('genai-prices')}"  # where prices come from, to be said beside them
# Tokens per second: the embedded engine on two cores, and one stream of a hosted model, a cautious guess.
EMBEDDED_SPEED, STREAM_SPEED = 70, 40


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for a run, if each request succeeds at the first attempt."""

    dialogues: int  # 0: plain requests
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None  # None: the model's price is unknown
    minutes: float | None  # a rough guess; None: a batch, done within 24 hours

    @classmethod
    def of(cls, bounds, teacher, dialogues=0, price=None, concurrency=16, limits=None):
        """Add up bounds, [(requests, tokens in, tokens out)]. price : as in Budget."""
        requests, read, written = map(sum, zip((0, 0, 0), *bounds, strict=True))
        written += requests * (THOUGHTS if teacher.thinks else 0)
        limits = limits or Limits()
        speed = EMBEDDED_SPEED if teacher.engine is not None else STREAM_SPEED * concurrency
        minutes = max(written / speed / 60, requests / (limits.requests_per_minute or math.inf))
        minutes = max(minutes, (read + written) / (limits.tokens_per_minute or math.inf))
        usd = dollars(Tokens(read, written), price_of(teacher, price))
        return cls(dialogues, requests, read, written, usd, minutes)

    def __str__(self):
        digits = 2 if self.usd is None or self.usd >= 1 else 4
        price = {None: "price unknown", 0: "no cost"}.get(self.usd, f"at most ${self.usd or 0:,.{digits}f}")
        if self.minutes is None:
            time = "within 24 hours"
        elif self.minutes < 1.5:
            time = "roughly a minute"
        elif self.minutes < 120:
            time = f"roughly {self.minutes:.0f} minutes"
        else:
            time = f"roughly {self.minutes / 60:.0f} hours"
        begin = f"{self.dialogues:,} dialogues: " if self.dialogues else ""
        tokens = f"{self.prompt_tokens:,} tokens in, {self.completion_tokens:,} tokens out"
        return f"{begin}at most {self.requests:,} requests, {tokens}; {price}; {time}"


def text_tokens(text):
    """Return a bound on the tokens of a message: one per 3 bytes, more than English needs, and 8 for its marks."""
    return len(text.encode()) // 3 + 8


def estimate_requests(requests, teacher) -> Estimate:
    """Return the Estimate of plain requests, [(messages, max_tokens)], before anything is spent."""
    return Estimate.of([(1, sum(text_tokens(m["content"]) for m in said), most) for said, most in requests], teacher)
