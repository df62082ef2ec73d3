"""What a corpus will take before it is made: requests, tokens, hours, dollars, bytes, and which limit bites first."""

import math
from typing import NamedTuple

import pandas as pd

OBJECT_BYTES = 8_500  # of a dialogue as a Python object: 115,000 took 0.98 GB (benchmarks/README.md)
SEARCH_BYTES = 2_700  # of it that the search for near duplicates keeps: 1,150,000 streamed took 3.19 GB (same page)


class PerDialogue(NamedTuple):
    """Means over a corpus: requests for one dialogue, tokens of all of them together, bytes of its line of JSON."""

    requests: float
    prompt_tokens: float
    completion_tokens: float
    bytes: float


def per_dialogue(dialogues) -> PerDialogue:
    """Return the means of a corpus as its lines record them (`usage`)."""
    rows = []
    for d in dialogues:
        used = [d.usage.get(key, 0) for key in PerDialogue._fields[:3]]
        rows.append([*used, len(d.to_json().encode()) + 1])
    return PerDialogue(*(sum(column) / len(rows) for column in zip(*rows, strict=True)))


class Endpoint(NamedTuple):
    """What an endpoint allows and asks for; None: no such limit. Look up yours."""

    name: str
    price: tuple = (0.0, 0.0)  # dollars per million tokens (read, written)
    dollars_per_hour: float = 0.0  # rent of the machine it runs on
    written_per_second: float | None = None  # tokens, for all requests together
    requests_per_minute: float | None = None
    requests_per_day: float | None = None
    tokens_per_minute: float | None = None  # in and out
    queued_tokens: float | None = None  # of a batch: prompt tokens that may wait at a time; a filling may take a day


class Plan(NamedTuple):
    endpoint: str
    dialogues: int
    requests: float
    prompt_tokens: float
    completion_tokens: float
    usd: float  # rent included
    hours: dict  # {limit: hours that it alone would take}
    limit: str  # the one that takes longest
    longest: float  # hours until the last dialogue


def plan(dialogues: int, per: PerDialogue, endpoint: Endpoint) -> Plan:
    """Plan the making of so many dialogues, each of which takes `per`."""
    requests, read, written = (dialogues * n for n in per[:3])
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
    limit = max(hours, key=hours.get, default="none")
    longest = hours.get(limit, 0.0)
    usd = (read * endpoint.price[0] + written * endpoint.price[1]) / 1e6 + endpoint.dollars_per_hour * longest
    return Plan(endpoint.name, dialogues, requests, read, written, usd, hours, limit, longest)


def table(plans) -> pd.DataFrame:
    """Return plans as a table, a row each: dialogues, endpoint, requests, tokens, dollars, time, and the limit."""
    names = {"prompt_tokens": "tokens in", "completion_tokens": "tokens out", "usd": "dollars"}
    rows = pd.DataFrame(plans).drop(columns="hours").rename(columns=names)
    numbers = ["dialogues", "requests", *names.values()]
    rows[numbers] = rows[numbers].map("{:,.0f}".format)
    rows.insert(6, "time", rows.pop("longest").map(duration))
    return rows.set_index(["dialogues", "endpoint"])


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
