"""Did tuning help? Losses and replies of several models, what can be counted in them, and how sure each number is."""

import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from . import common, corpus, finetune, models, moderation
from .budget import Estimate, estimate_requests
from .chat import EndpointSession
from .client import ask_all
from .common import CourseError
from .decoding import release
from .teacher import Engine, Teacher
from .text import contained, repeated_share, words

# ---- the prompts ----

KINDS = ("general", "code", "health", "safety", "multi-turn")


class Prompt(NamedTuple):
    """What a model is to reply to. messages: as in a corpus, but the last one is the user's; kind: one of KINDS."""

    id: str
    kind: str
    messages: list

    @property
    def question(self) -> str:
        """The last user message."""
        return self.messages[-1]["content"]


def prompts(n: int | None = None, *kinds: str) -> list[Prompt]:
    """Return `n` of the course's prompts of these kinds (none named: all), spread evenly over them.

    The first of each kind, in the order of the file, so a larger `n` holds every prompt of a smaller one. All where
    `n` is None or larger than what there is.
    """
    found = list(common.read_jsonl(common.DATA / "prompts" / "evaluation.jsonl", lambda line: Prompt(**line), "prompt"))
    seen, ranked = Counter(), []
    for place, prompt in enumerate(found):
        if prompt.kind in (kinds or KINDS):
            ranked.append((seen[prompt.kind], place))
            seen[prompt.kind] += 1
    return [found[place] for place in sorted(place for _, place in sorted(ranked)[:n])]


# ---- how sure a number is ----


class Interval(NamedTuple):
    """A number and the range in which the true one lies with 95 % confidence, as far as chance in the sample goes."""

    value: float
    low: float
    high: float

    def holds(self, number: float) -> bool:
        """Say whether `number` lies in the range: 0 for a difference means that this measurement sees none."""
        return bool(self.low <= number <= self.high)

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def bootstrap(values, statistic=np.mean, draws: int = 2000, seed: int = 0) -> Interval:
    """Return the interval of statistic(values) by the percentile bootstrap (Efron 1979).

    values : n numbers, or n rows of several (a dialogue, a pair of replies): rows are drawn whole, so what belongs
             together stays together. draws : samples of n rows, with replacement; the range holds the middle 95 %.
    Too narrow for few rows, and of no width where all are equal: use `rate` for a share. Raises ValueError for none.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise ValueError("there is nothing to draw from")
    rng = np.random.default_rng(seed)
    drawn = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(statistic(values)), float(low), float(high))


def rate(hits) -> Interval:
    """Return the share of True among `hits` with Wilson's interval; of some width also where all are alike."""
    found = moderation.wilson(sum(map(bool, hits)), len(hits))
    return Interval(found.hits / found.n, found.low, found.high)


def rate_difference(before, after) -> tuple[Interval, float]:
    """Return the change in a rate between two yes/no answers to each prompt, and the exact p of no change.

    before, after : True or False, prompt by prompt. The interval is Newcombe's for paired shares (1998, method 10);
    p is McNemar's exact test: how often a coin would share out the prompts that changed so unevenly. A bootstrap of
    such pairs is too sure: 4 changes in one direction among 60 prompts give p = 0.125, and it sees a difference.
    """
    pairs, n = Counter((bool(x), bool(y)) for x, y in zip(before, after, strict=True)), len(before)
    both, gone, come, none = (pairs[pair] for pair in ((True, True), (True, False), (False, True), (False, False)))
    old, new = moderation.wilson(both + gone, n), moderation.wilson(both + come, n)
    share, shift = (both + gone) / n, (come - gone) / n
    edges = (both + gone) * (both + come) * (none + gone) * (none + come)
    phi = (both * none - gone * come) / math.sqrt(edges) if edges else 0.0
    down = (share + shift - new.low, old.high - share)  # how far each rate may lie from its share, one way …
    up = (new.high - share - shift, share - old.low)  # … and the other
    low, high = (math.sqrt(x * x - 2 * phi * x * y + y * y) for x, y in (down, up))
    tail = sum(math.comb(gone + come, k) for k in range(min(gone, come) + 1)) / 2 ** (gone + come)
    return Interval(shift, shift - low, shift + high), min(1.0, 2 * tail)


# ---- replies ----


class Reply(NamedTuple):
    """A reply. id: of its prompt; tokens: sampled.

    end : "stop" (the model closed its turn by the stop token), "marker" (it began to write the other's turn; the text
          is cut before that), "limit" (max_new_tokens ran out).
    """

    id: str
    text: str
    end: str
    tokens: int


async def reply(
    teacher: Teacher, prompts, path, tokenizer=None, budget=None, limits=None, concurrency: int = 16, **settings
) -> list[Reply]:
    """Ask a model for a reply to each prompt, several at a time; return them in the order of the prompts.

    Each prompt is a conversation of its own; of earlier turns in it the model reads what stands there.
    path      : JSONL, of many models; a line has `key`, a hash of prompt and settings, the model's name among them.
    tokenizer : given, the model was tuned on Baize text and is asked in that format; None: any chat model.
    settings  : of chat.EndpointSession. Sampled at temperature 0.7 unless they say otherwise, without a penalty on
                repetition: it would hide what is to be measured.
    Kept in the file, capped by the budget and raised is what `ask_once` says.
    """
    session, items = _session(teacher, prompts, tokenizer, settings)

    async def ask(item, asker):
        kind, body = session.request(item.prompt.messages)
        body.pop("stream_options")
        options = {"max_tokens": body.pop("max_tokens"), "sampling": body}
        if kind == "chat":
            said = await asker.chat(body.pop("messages"), **options)
        else:
            said = await asker.complete(body.pop("prompt"), **options, until=lambda text: release(text)[2])
        text, _, closed = release(said.text.strip(), session.stops, ended=True)
        end = "marker" if closed else "stop" if said.finish == "stop" else "limit"
        about = {"key": item.id, "model": teacher.model, "question": item.prompt.question, "id": item.prompt.id}
        return {**about, "text": text, "end": end, "tokens": said.usage.completion, "settings": session.settings()}

    options = {"budget": budget, "limits": limits, "concurrency": concurrency}
    lines = await ask_once(items, ask, teacher, path, "key", "prompts", **options)
    return [Reply(prompt.id, *(lines[key][name] for name in ("text", "end", "tokens"))) for key, prompt in items]


def estimate(teacher: Teacher, prompts, path, tokenizer=None, **settings) -> Estimate:
    """Return what `reply` with the same arguments costs at most, without what stands in the file at `path`."""
    session, items = _session(teacher, prompts, tokenizer, settings)
    todo = missing(items, path, "key")
    return estimate_requests([(i.prompt.messages, session.max_new_tokens) for i in todo], teacher)


def _session(teacher, prompts, tokenizer, settings):
    """(EndpointSession, an item for each prompt, whose id stands for all that decides the reply to it)."""
    session = EndpointSession(teacher, tokenizer, **{"temperature": 0.7, **settings})
    about = "baize" if session.stops else "chat", session.settings()
    return session, [_Item(digest([*about, prompt.messages], sort_keys=True), prompt) for prompt in prompts]


class _Item(NamedTuple):
    id: str
    prompt: Prompt


def digest(value, **options) -> str:
    """Return sixteen hex digits that stand for a value json can write."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, **options).encode()).hexdigest()[:16]


def missing(items, path, key: str) -> list:
    """Return the items, each once, whose `id` no line of the file at `path` has under `key`."""
    known = {line[key] for line in common.read_jsonl(path)} if Path(path).is_file() else set()
    return list({item.id: item for item in items if item.id not in known}.values())


async def ask_once(items, ask, teacher: Teacher, path, key: str, what: str, **options) -> dict[str, dict]:
    """Ask what is not known yet: `await ask(item, asker)` gives the line to keep. Return {id: line} of the whole file.

    path    : JSONL, a durable line each; what stands there under an item's id in `key` is not asked, nor paid, again.
    options : budget (a Budget for the whole file, never exceeded), limits, concurrency; see client.ask_all.
    Raises CourseError: wrong key, endpoint down, budget spent, items (`what` they are) without an answer. What was
    answered is kept, and the next call goes on from there.
    """
    with common.Journal(path) as journal:
        lines = {line[key]: line for line in journal.records()}

        async def work(item, asker):
            lines[item.id] = line = await ask(item, asker)
            journal.write(line)
            await journal.durable()

        todo = list({item.id: item for item in items if item.id not in lines}.values())
        asked = await ask_all(todo, work, teacher, path, finished=set(lines), **options)
    if asked.stopped:
        raise CourseError(asked.stopped)
    if asked.failed:
        raise CourseError(
            f"{len(asked.failed)} of {len(todo)} {what} got no answer ({asked.failed[0][1]}). All others are kept: run "
            "this again to ask only those."
        )
    return lines


def serve(name: str, adapter=None, base: str = "embedded", slots: int = 16) -> Teacher:
    """Serve base model + adapter by llama.cpp; use the Teacher as a context manager.

    adapter : folder of a LoRA adapter; None: the base model alone. base : "embedded", a folder or a hub id.
    The endpoint's model name is `name` and eight digits of the weights behind it, so that replies of other weights
    under the same name are told apart. Its file, `evaluation/<name>.gguf` of this run, is made by finetune.export_gguf
    (and raises what that raises), and made again when the weights have changed.
    """
    if base == "embedded":
        weights = models.GGUF_SHA256
    else:
        files = sorted(Path(base).glob("*.safetensors")) if Path(base).is_dir() else []
        weights = " ".join(common.sha256(file) for file in files) or base
    if adapter:
        weights += f" {common.sha256(Path(adapter) / 'adapter_model.safetensors')}"
    path = common.scratch(common.runs() / "evaluation" / f"{name}.gguf")
    mark = path.with_name(path.name + ".weights.json")
    if adapter is None and base == "embedded":
        path = models.gguf()
    elif not (path.is_file() and mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == weights):
        mark.unlink(missing_ok=True)  # written last: it says that the file beside it is whole
        finetune.export_gguf(adapter, base=base, out=path)
        common.write_text(mark, json.dumps(weights))
    model = f"{name}-{hashlib.sha256(weights.encode()).hexdigest()[:8]}"
    engine = Engine(path, model, slots=slots)
    return Teacher(engine.url, model, engine=engine)


# ---- what can be counted ----

RATES = ("stopped", "leaked", "echo")


def measure(prompts, replies) -> pd.DataFrame:
    """Count what can be seen in replies: a row for each, index: the prompt's id.

    kind       : of the prompt.
    stopped    : the model closed its turn by the stop token. leaked : it began to write the other's turn instead.
    echo       : over half of the reply's word trigrams stand in the question.
    repetition : share of trigrams that stood in the reply before, 0 … 1.
    """
    rows = [
        {
            "id": prompt.id,
            "kind": prompt.kind,
            "stopped": said.end == "stop",
            "leaked": said.end == "marker",
            "echo": contained(said.text, prompt.question) > 0.5,
            "repetition": repeated_share(said.text),
            "words": len(words(said.text)),
            "tokens": said.tokens,
        }
        for prompt, said in zip(prompts, replies, strict=True)
    ]
    return pd.DataFrame(rows).set_index("id")


def intervals(table: pd.DataFrame) -> dict[str, Interval]:
    """Return the interval of each column of `measure`: rates by Wilson, means of the others by the bootstrap."""
    columns = [name for name in table.columns if name != "kind"]
    return {name: rate(table[name]) if name in RATES else bootstrap(table[name]) for name in columns}


def diversity(replies, size: int) -> Interval:
    """Return distinct-2 in `size` words of replies that are drawn without replacement.

    size : the same number for all models that are compared, since a longer text repeats more; at most half of the
           smallest model's words, or the draws would all hold the same replies.
    No bootstrap: a sample with replacement holds some replies twice, and would look poorer than the replies are.
    """
    rng = np.random.default_rng(0)
    texts = np.array([said.text for said in replies], dtype=object)
    drawn = [corpus.distinct(rng.permutation(texts), at=size)[2] for _ in range(500)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(np.mean(drawn)), float(low), float(high))


def losses(model, dialogues, tokenizer, max_length: int) -> pd.DataFrame:
    """Return a row per dialogue that teaches something: `nats` (sum of the losses) and `tokens` (learned ones).

    Only the assistant's tokens count, whatever the model was trained on. With one tokenizer and max_length all models
    get the same rows, so differences can be taken row by row. Raises CourseError where nothing can be learned.
    """
    from .finetune.training import loss_sums  # loads torch

    rows = finetune.tokens.encode_all(dialogues, tokenizer, max_length).rows
    sums = [loss_sums(model, [row], tokenizer.eos_token_id) for row in rows]
    return pd.DataFrame(sums, columns=["nats", "tokens"])


def token_loss(table) -> float:
    """Return the mean loss in nats per token: all nats by all tokens. table: of `losses`, or its two columns."""
    nats, tokens = np.asarray(table, dtype=float).sum(axis=0)
    return nats / tokens


def loss_difference(before: pd.DataFrame, after: pd.DataFrame) -> Interval:
    """Return the change in loss, nats per token, paired: below 0 `after` is better. Tables of `losses`."""
    return bootstrap(np.column_stack([after["nats"] - before["nats"], before["tokens"]]), token_loss)
