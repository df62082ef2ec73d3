"""What a corpus will take before it is made: requests, tokens, hours, dollars, bytes, and which limit bites first."""

import math
from dataclasses import dataclass

import pandas as pd

OBJECT_BYTES = 8_500  # of a dialogue as a Python object: 115,000 took 0.98 GB (benchmarks/README.md)
SEARCH_BYTES = 2_700  # of it that the search for near duplicates keeps: 1,150,000 streamed took 3.19 GB (same page)


@dataclass(frozen=True)
class PerDialogue:
    """Means over a corpus: requests for one dialogue, tokens of all of them together, bytes of its line of JSON."""

    requests: float
    prompt_tokens: float
    completion_tokens: float
    bytes: float


def per_dialogue(dialogues) -> PerDialogue:
    """Return the means of a corpus as its lines record them (`usage`)."""
    sums = {key: sum(d.usage.get(key, 0) for d in dialogues) for key in PerDialogue.__annotations__ if key != "bytes"}
    size = sum(len(d.to_json().encode()) + 1 for d in dialogues)
    return PerDialogue(**{key: total / len(dialogues) for key, total in sums.items()}, bytes=size / len(dialogues))


@dataclass(frozen=True)
class Endpoint:
    """What an endpoint allows and asks for; None: no such limit. Look up yours.

    price              : dollars per million tokens (read, written). dollars_per_hour : rent of the machine it runs on.
    written_per_second : tokens that it writes for all requests together. tokens_per_minute : in and out.
    queued_tokens      : of a batch: prompt tokens that may wait at a time. Each filling may take a day.
    """

    name: str
    price: tuple = (0.0, 0.0)
    dollars_per_hour: float = 0.0
    written_per_second: float | None = None
    requests_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_minute: float | None = None
    queued_tokens: float | None = None


@dataclass(frozen=True)
class Plan:
    """What `dialogues` take at one endpoint. hours : {limit: hours that it alone would take}. usd : rent included."""

    endpoint: str
    dialogues: int
    requests: float
    prompt_tokens: float
    completion_tokens: float
    hours: dict
    usd: float

    @property
    def limit(self) -> str:
        """The limit that bites: the one that takes longest."""
        return max(self.hours, key=self.hours.get)

    @property
    def longest(self) -> float:
        """Hours until the last dialogue."""
        return self.hours[self.limit]


def plan(dialogues: int, per: PerDialogue, endpoint: Endpoint) -> Plan:
    """Plan the making of so many dialogues, each of which takes `per`."""
    requests, read, written = (dialogues * n for n in (per.requests, per.prompt_tokens, per.completion_tokens))
    hours = {}
    if endpoint.requests_per_minute:
        hours["requests a minute"] = requests / endpoint.requests_per_minute / 60
    if endpoint.requests_per_day:
        hours["requests a day"] = requests / endpoint.requests_per_day * 24
    if endpoint.tokens_per_minute:
        hours["tokens a minute"] = (read + written) / endpoint.tokens_per_minute / 60
    if endpoint.written_per_second:
        hours["tokens written"] = written / endpoint.written_per_second / 3600
    if endpoint.queued_tokens:
        hours["batch queue"] = math.ceil(read / endpoint.queued_tokens) * 24
    hours = hours or {"none": 0.0}
    rent = endpoint.dollars_per_hour * max(hours.values())
    usd = (read * endpoint.price[0] + written * endpoint.price[1]) / 1e6 + rent
    return Plan(endpoint.name, dialogues, requests, read, written, hours, usd)


def table(plans) -> pd.DataFrame:
    """Return plans as a table, a row each: dialogues, endpoint, requests, tokens, dollars, time, and the limit."""
    rows = [
        {
            "dialogues": f"{p.dialogues:,}",
            "endpoint": p.endpoint,
            "requests": f"{p.requests:,.0f}",
            "tokens in": f"{p.prompt_tokens:,.0f}",
            "tokens out": f"{p.completion_tokens:,.0f}",
            "dollars": f"{p.usd:,.0f}",
            "time": duration(p.longest),
            "limit": p.limit,
        }
        for p in plans
    ]
    return pd.DataFrame(rows).set_index(["dialogues", "endpoint"])


def duration(hours: float) -> str:
    """Say hours as people do: "40 minutes", "3.5 hours", "12 days", "4.1 years"."""
    if hours >= 24 * 365:
        return f"{hours / 24 / 365:,.1f} years"
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"


def space(dialogues: int, per: PerDialogue) -> dict[str, float]:
    """Return {what: bytes} that so many dialogues take."""
    sizes = {"JSON lines, on disk": per.bytes, "objects, in memory": OBJECT_BYTES, "streamed, in memory": SEARCH_BYTES}
    return {what: dialogues * size for what, size in sizes.items()}
