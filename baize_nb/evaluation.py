"""Did tuning help? Losses and replies of several models, what can be counted in them, and how sure each number is."""

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import common, corpus, finetune, models, moderation, transcript
from .budget import Estimate, estimate_requests
from .chat import EndpointSession, release
from .client import ask_once, digest, missing
from .teacher import Engine, Teacher
from .text import contained, repeated_share, words


class Prompt(NamedTuple):
    """What a model is to reply to. messages: as in a corpus, but the last one is the user's."""

    id: str
    kind: str  # general, code, health, safety, multi-turn
    messages: list

    @property
    def question(self) -> str:  # the last user message
        return self.messages[-1]["content"]


def prompts(n: int | None = None) -> list[Prompt]:
    """Return `n` of the course's prompts (None: all), the first of each kind: a larger `n` holds those of a smaller."""
    path = common.DATA / "prompts" / "evaluation.jsonl"
    found = list(common.read_jsonl(path, lambda line: Prompt(**line), "prompt"))
    seen, ranks = Counter(), []
    for prompt in found:
        ranks.append(seen[prompt.kind])
        seen[prompt.kind] += 1
    first = sorted(range(len(found)), key=lambda place: ranks[place])[:n]
    return [found[place] for place in sorted(first)]


class Interval(NamedTuple):
    """A number and its 95 % interval, which knows of chance in the sample only."""

    value: float
    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Say whether `number` lies in the range: 0 for a difference means that this measurement sees none."""
        return bool(self.low <= number <= self.high)

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def bootstrap(values, statistic=np.mean, draws: int = 2000) -> Interval:
    """Return the interval of statistic(values) by the percentile bootstrap (Efron 1979).

    values : n numbers, or n rows of several (a dialogue, a pair of replies): rows are drawn whole. draws : samples of
    n rows, with replacement. Of no width where all rows are equal: use `rate` for a share. Raises ValueError for none.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("there is nothing to draw from")
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.choice(values, len(values))) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(statistic(values)), float(low), float(high))


def rate(hits) -> Interval:
    """Return the share of True among `hits` with Wilson's interval; of some width also where all are alike."""
    found = moderation.wilson(sum(map(bool, hits)), len(hits))
    return Interval(found.hits / found.n, found.low, found.high)


def rate_difference(before, after) -> tuple[Interval, float]:
    """Return the change in a rate between two lists of True or False, prompt by prompt, and the exact p of no change.

    The interval is Newcombe's for paired shares (1998, method 10); p is McNemar's exact test: how often a coin would
    share out the prompts that changed so unevenly.
    """
    pairs = Counter((bool(x), bool(y)) for x, y in zip(before, after, strict=True))
    both, gone, come, none = (pairs[pair] for pair in ((True, True), (True, False), (False, True), (False, False)))
    n = len(before)
    old, new = moderation.wilson(both + gone, n), moderation.wilson(both + come, n)
    share, shift = (both + gone) / n, (come - gone) / n
    edges = (both + gone) * (both + come) * (none + gone) * (none + come)
    phi = (both * none - gone * come) / math.sqrt(edges) if edges else 0.0
    down = (share + shift - new.low, old.high - share)  # how far each rate may lie from its share, one way …
    up = (new.high - share - shift, share - old.low)  # … and the other
    low, high = (math.sqrt(x * x - 2 * phi * x * y + y * y) for x, y in (down, up))
    changed = gone + come
    tail = sum(math.comb(changed, k) for k in range(min(gone, come) + 1)) / 2**changed
    return Interval(shift, shift - low, shift + high), min(1.0, 2 * tail)


class Reply(NamedTuple):
    id: str  # the prompt's
    text: str
    end: str  # "stop" (by the stop token), "marker" (of the other's turn, cut off here) or "limit" (of tokens)
    tokens: int


async def reply(teacher: Teacher, prompts, path, tokenizer=None, budget=None, **settings) -> list[Reply]:
    """Ask a model for a reply to each prompt, several at a time; return them in the order of the prompts.

    Each prompt is a conversation of its own; of earlier turns in it the model reads what stands there.
    path      : JSONL, of many models; a line's `key` is a hash of prompt and settings, the model's name among them.
    tokenizer : given, the model is asked in the Baize format; None: in its own, as any chat model.
    settings  : of chat.EndpointSession, with temperature 0.7 and no penalty on repetition unless they say otherwise.
    What is kept, capped by the budget and raised: see client.ask_once.
    """
    session, items = _session(teacher, prompts, tokenizer, settings)

    async def ask(item, asker):
        kind, body = session.request(item.prompt.messages)
        body.pop("stream_options")
        options = {"max_tokens": body.pop("max_tokens"), "sampling": body}
        if kind == "chat":
            if teacher.engine is not None:  # the same sampler for both formats: top_p alone
                body["extra_body"] |= {"top_k": 0, "min_p": 0}
            said = await asker.chat(body.pop("messages"), **options)
        else:
            said = await asker.complete(body.pop("prompt"), **options)
        text, _, closed = release(said.text.strip(), session.stops, ended=True)
        end = "marker" if closed else "stop" if said.finish == "stop" else "limit"
        line = {"key": item.id, "model": teacher.model, "question": item.prompt.question, "id": item.prompt.id}
        return line | {"text": text, "end": end, "tokens": said.usage.completion, "settings": session.settings()}

    lines = await ask_once(items, ask, teacher, path, "key", "prompts", budget=budget)
    return [Reply(prompt.id, *(lines[key][name] for name in ("text", "end", "tokens"))) for key, prompt in items]


def estimate(teacher: Teacher, prompts, path, tokenizer=None, **settings) -> Estimate:
    """Return what `reply` with the same arguments costs at most, without what stands in the file at `path`."""
    session, items = _session(teacher, prompts, tokenizer, settings)
    todo = missing(items, path, "key")
    return estimate_requests([(i.prompt.messages, session.max_new_tokens) for i in todo], teacher)


class _Item(NamedTuple):
    id: str
    prompt: Prompt


def _session(teacher, prompts, tokenizer, settings):
    """(EndpointSession, an item for each prompt, whose id stands for all that decides the reply to it)."""
    session = EndpointSession(teacher, tokenizer, **{"temperature": 0.7, **settings})
    about = "baize" if session.stops else "chat", session.settings()
    return session, [_Item(digest([*about, prompt.messages], sort_keys=True), prompt) for prompt in prompts]


def serve(name: str, adapter=None, base: str = "embedded", slots: int = 16) -> Teacher:
    """Serve base model + adapter by llama.cpp; use the Teacher as a context manager.

    adapter : folder of a LoRA adapter; None: the base model alone. base : "embedded", a folder or a hub id.
    The endpoint's model name is `name` and eight digits of the weights behind it, so that replies of other weights
    are told apart; its file lies in the folder `evaluation` of this run.
    """
    weights = models.GGUF_SHA256 if base == "embedded" else base
    if base != "embedded" and Path(base).is_dir():
        weights = " ".join(common.sha256(file) for file in sorted(Path(base).glob("*.safetensors")))
    if adapter:
        weights += f" {common.sha256(Path(adapter) / 'adapter_model.safetensors')}"
    model = f"{name}-{hashlib.sha256(weights.encode()).hexdigest()[:8]}"
    path = common.scratch(common.runs() / "evaluation" / f"{model}.gguf")
    if adapter is None and base == "embedded":
        path = models.gguf()
    elif not path.is_file():
        for old in path.parent.glob(f"{name}-????????.gguf*"):
            old.unlink()
        finetune.export_gguf(adapter, base=base, out=path)  # whole or not at all
    engine = Engine(path, model, slots=slots)
    return Teacher(engine.url, model, engine=engine)


RATES = ("stopped", "leaked", "echo")


def measure(prompts, replies) -> pd.DataFrame:
    """Count what can be seen in replies: a row for each, index: the prompt's id.

    stopped : it ended by the stop token. leaked : by a marker of the other's turn. echo : over half of its word
    trigrams stand in the question. repetition : share of its trigrams that it had said before, 0 … 1.
    """
    rows = []
    for prompt, said in zip(prompts, replies, strict=True):
        row = {"id": prompt.id, "kind": prompt.kind}
        row |= {"stopped": said.end == "stop", "leaked": said.end == "marker"}
        row["echo"] = contained(said.text, prompt.question) > 0.5
        row["repetition"] = repeated_share(said.text)
        row |= {"words": len(words(said.text)), "tokens": said.tokens}
        rows.append(row)
    return pd.DataFrame(rows).set_index("id")


def intervals(table: pd.DataFrame) -> dict[str, Interval]:
    """Return the interval of each column of `measure`: rates by Wilson, means of the others by the bootstrap."""
    columns = table.drop(columns="kind")
    return {name: rate(column) if name in RATES else bootstrap(column) for name, column in columns.items()}


def diversity(replies, size: int) -> Interval:
    """Return distinct-2 in `size` words of replies that are drawn without replacement.

    size : the same for all models that are compared, since a longer text repeats more; at most half of the smallest
           model's words. No bootstrap: a reply that was drawn twice would look like repetition.
    """
    rng = np.random.default_rng(0)
    texts = np.array([said.text for said in replies], dtype=object)
    drawn = [corpus.distinct(rng.permutation(texts), at=size)[2] for _ in range(500)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(np.mean(drawn)), float(low), float(high))


def losses(model, dialogues, tokenizer, max_length: int, own_format: bool = False) -> pd.DataFrame:
    """Return a row per dialogue that teaches something: `nats` (sum of the losses) and `tokens` (learned ones).

    Only the assistant's tokens count, whatever the model was trained on, and all models get the same dialogues:
    differences can be taken row by row. own_format : write them by the tokenizer's chat template, not as Baize text.
    """
    from .finetune.training import loss_sums  # loads torch

    if own_format:
        rows = [_own_row(dialogue.messages, tokenizer) for dialogue in dialogues]
    else:
        rows = finetune.tokens.encode_all(dialogues, tokenizer, max_length).rows
    sums = [loss_sums(model, [row], tokenizer.eos_token_id) for row in rows]
    return pd.DataFrame(sums, columns=["nats", "tokens"])


def _own_row(messages, tokenizer):
    """A dialogue by the chat template, the preamble as its system message; labels as in finetune.tokens.encode."""
    talk = [{"role": "system", "content": transcript.PREAMBLE.strip()}, *messages]
    ids = tokenizer.apply_chat_template(talk, return_dict=False)
    labels = [finetune.tokens.IGNORE] * len(ids)
    for place in range(2, len(talk), 2):  # of the assistant's messages
        start = len(tokenizer.apply_chat_template(talk[:place], add_generation_prompt=True, return_dict=False))
        stop = ids.index(tokenizer.eos_token_id, start) + (not talk[place].get("trimmed"))
        labels[start:stop] = ids[start:stop]
    return {"input_ids": ids, "labels": labels}


def token_loss(table) -> float:
    """Return the mean loss in nats per token: all nats by all tokens. table: of `losses`, or its two columns."""
    nats, tokens = np.asarray(table, dtype=float).sum(axis=0)
    return nats / tokens


def loss_difference(before: pd.DataFrame, after: pd.DataFrame) -> Interval:
    """Return the change in loss, nats per token, paired: below 0 `after` is better. Tables of `losses`."""
    rows = np.column_stack([before, after])
    return bootstrap(rows, lambda drawn: token_loss(drawn[:, 2:]) - token_loss(drawn[:, :2]))
