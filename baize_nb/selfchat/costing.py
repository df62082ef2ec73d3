"""What a corpus will cost, before anything is spent.

Knows: how many requests and tokens a strategy needs, and what they cost in money and time.
Does not know: how dialogues are made. Built in notebook 02.
"""

from dataclasses import dataclass

from .budget import Tokens, dollars, price_of
from .choosing import choose
from .pacing import Limits
from .strategies import Settings

# Tokens per second, to say "minutes" before anything was measured: the embedded engine in all, on two cores (see
# benchmarks/selfchat.py), and one stream of a hosted model, a cautious guess.
EMBEDDED_SPEED, STREAM_SPEED = 70, 40


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for a run, if each request succeeds at the first attempt.

    dialogues, requests : numbers. prompt_tokens, completion_tokens : tokens in and out, all requests together.
    usd : dollars; 0.0 for the embedded teacher, None where the model's price is unknown.
    minutes : a rough guess; None for a batch, which is done within 24 hours.
    """

    dialogues: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    minutes: float | None

    def __str__(self):
        digits = 2 if self.usd is None or self.usd >= 1 else 4
        price = {None: "price unknown", 0: "no cost"}.get(self.usd, f"at most ${self.usd or 0:,.{digits}f}")
        return (
            f"{self.dialogues:,} dialogues: at most {self.requests:,} requests, {self.prompt_tokens:,} tokens in, "
            f"{self.completion_tokens:,} tokens out; {price}; {_time(self.minutes)}"
        )


def _time(minutes):
    if minutes is None:
        return "within 24 hours"
    if minutes < 1.5:
        return "roughly a minute"
    return f"roughly {minutes:.0f} minutes" if minutes < 120 else f"roughly {minutes / 60:.0f} hours"


def estimate(seeds, teacher, strategy="auto", settings=None, concurrency=16, limits=None, price=None, batch=False):
    """Bounds on requests, tokens and dollars of `collect` with the same arguments, and a guess at the minutes.

    price : as in Budget. batch : at the half price of OpenAI's Batch API, and without a guess at the time (24 h).
    Tokens of a text are counted as one per 3 bytes, which is more than English needs.
    """
    settings, limits = settings or Settings(), limits or Limits()
    count = {"transcript": _transcript, "two-role": _two_role, "open-header": _open_header}[choose(strategy, teacher)]
    bounds = [count(seed, settings) for seed in seeds]
    requests, read, written = (sum(column) for column in zip(*bounds, strict=True)) if bounds else (0, 0, 0)
    usd = dollars(Tokens(read, written), price_of(teacher, price))
    if batch:
        return Estimate(len(bounds), requests, read, written, usd and usd / 2, None)
    speed = EMBEDDED_SPEED if teacher.engine is not None else STREAM_SPEED * concurrency
    minutes = [
        written / speed / 60,
        requests / (limits.requests_per_minute or float("inf")),
        (read + written) / (limits.tokens_per_minute or float("inf")),
    ]
    return Estimate(len(bounds), requests, read, written, usd, max(minutes))


def _tokens(text):
    return len(text.encode()) // 3 + 8  # 8: role marks around a message


def _open_header(seed, settings):
    """(requests, tokens in, tokens out) of one dialogue: each request sends all that was said before."""
    return _in_turns(seed, settings, before_question=_tokens(settings.persona))


def _two_role(seed, settings):
    """The same where the human's side has a prompt of its own, which names the topic once more."""
    return _in_turns(seed, settings, before_question=_tokens(settings.human_prompt) + _tokens(seed.text))


def _in_turns(seed, settings, before_question):
    said, persona = _tokens(seed.text), _tokens(settings.persona)
    read = 0
    for turn in range(settings.max_turns):
        read, said = read + persona + said, said + settings.answer_tokens + 8
        if turn < settings.max_turns - 1:
            read, said = read + before_question + said, said + settings.question_tokens + 8
    written = settings.max_turns * settings.answer_tokens + (settings.max_turns - 1) * settings.question_tokens
    return 2 * settings.max_turns - 1, read, written


def _transcript(seed, settings):
    """The same for one request per dialogue."""
    written = settings.max_turns * (settings.answer_tokens + settings.question_tokens)
    return 1, _tokens(settings.prompt) + _tokens(seed.text), written
