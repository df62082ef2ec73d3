"""What a corpus will cost, before anything is spent.

Knows: how many requests and tokens a strategy needs, and what a token costs (the genai-prices package).
Does not know: how dialogues are made. Built in notebook 02.
"""

from dataclasses import dataclass

from .strategies import Settings, choose


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for a run.

    dialogues, requests : numbers. prompt_tokens, completion_tokens : tokens in and out, all requests together.
    usd : dollars; 0.0 for the embedded teacher, None where the model's price is unknown.
    """

    dialogues: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None

    def __str__(self):
        price = {None: "price unknown", 0: "no cost"}.get(self.usd, f"at most ${self.usd or 0:,.2f}")
        return (
            f"{self.dialogues:,} dialogues: at most {self.requests:,} requests, {self.prompt_tokens:,} tokens in, "
            f"{self.completion_tokens:,} tokens out; {price}"
        )


def estimate(seeds, teacher, strategy="auto", settings=None):
    """Bounds on requests, tokens and dollars of `collect` with the same arguments.

    Tokens of a text are counted as one per 3 characters, which is more than English needs.
    """
    settings = settings or Settings()
    count = _open_header if choose(strategy, teacher) == "open-header" else _transcript
    bounds = [count(seed, settings) for seed in seeds]
    requests, tokens_in, tokens_out = (sum(column) for column in zip(*bounds, strict=True)) if bounds else (0, 0, 0)
    return Estimate(len(bounds), requests, tokens_in, tokens_out, _dollars(teacher, tokens_in, tokens_out))


def _tokens(text):
    return len(text) // 3 + 8  # 8: role marks around a message


def _open_header(seed, settings):
    """(requests, tokens in, tokens out) of one dialogue: each request sends all that was said before."""
    history, tokens_in, requests = _tokens(settings.persona) + _tokens(seed.text), 0, 0
    for turn in range(settings.max_turns):
        tokens_in, history, requests = tokens_in + history, history + settings.answer_tokens + 8, requests + 1
        if turn < settings.max_turns - 1:
            tokens_in, history, requests = tokens_in + history, history + settings.question_tokens + 8, requests + 1
    out = settings.max_turns * settings.answer_tokens + (settings.max_turns - 1) * settings.question_tokens
    return requests, tokens_in, out


def _transcript(seed, settings):
    """The same for one request per dialogue."""
    out = settings.max_turns * (settings.answer_tokens + settings.question_tokens)
    return 1, _tokens(settings.prompt) + _tokens(seed.text), out


def _dollars(teacher, tokens_in, tokens_out):
    if teacher.engine is not None:
        return 0.0
    from genai_prices import Usage, calc_price

    try:
        usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
        return float(calc_price(usage, model_ref=teacher.model).total_price)
    except LookupError:
        return None
