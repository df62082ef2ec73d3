"""How big a corpus is, source by source, how varied, what its rules find, and how big the paper's was: tables."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import linear_regression
from typing import TYPE_CHECKING

from ..text import words
from .cleaning import RULES, SUSPICIONS, Rule, findings
from .dialogue import Dialogue, uncollected

if TYPE_CHECKING:  # takes half a second to load
    import pandas as pd

# Baize (arXiv 2304.01196), table 1. It prints the length without its unit, and does not say what is averaged.
PAPER = {
    "Alpaca": (51_942, 1.0, 44.2),
    "Quora": (54_456, 3.9, 35.9),
    "StackOverflow": (57_046, 3.6, 36.0),
    "MedQuAD": (46_867, 3.8, 35.8),
    "Quora v2": (55_770, 3.0, 149.6),
    "StackOverflow v2": (112_343, 3.9, 78.2),
}
_SELF_CHAT = ("Quora", "StackOverflow", "MedQuAD")  # first version; Alpaca is single questions with their answers


@dataclass
class Measures:
    """What `measure` counted; everything but `growth` is a sum, so that those of two corpora can be added.

    sides       : {(source, role): {"messages", "words", "characters", "tokens"}}, sums.
    by_turn     : the same by (turn from 1, role). turns : {source: {turns of a dialogue: dialogues}}.
    ends        : {reason to stop: dialogues}. trimmed : {source: answers cut back to their last whole sentence}.
    limited     : {source: dialogues that stopped because turns ("max_turns") or tokens ("length") ran out}.
    first_words : {first two words: questions}, without first questions that are the seed: a person wrote those.
    growth      : [(words read, distinct words among them)], rising.
    """

    with_tokens: bool
    sides: dict = field(default_factory=lambda: defaultdict(Counter))
    by_turn: dict = field(default_factory=lambda: defaultdict(Counter))
    turns: dict = field(default_factory=lambda: defaultdict(Counter))
    ends: Counter = field(default_factory=Counter)
    trimmed: Counter = field(default_factory=Counter)
    limited: Counter = field(default_factory=Counter)
    first_words: Counter = field(default_factory=Counter)
    growth: list = field(default_factory=list)

    def total(self, role: str, sources: Iterable[str] | None = None) -> Counter:
        """Add up the messages of one role over some sources, or over all."""
        sources = self.turns if sources is None else sources
        return sum((self.sides[source, role] for source in sources if (source, role) in self.sides), Counter())


@uncollected()
def measure(dialogues: Iterable[Dialogue], tokenizer=None) -> Measures:
    """Count everything in one pass; memory grows with the vocabulary only.

    dialogues : any iterable, a `stream` for a file that is larger than the memory.
    tokenizer : of transformers or tokenizers, of the model to be trained; None counts no tokens. Counted are the
                tokens of the messages alone, without markers and special tokens.
    """
    count, dialogues, found = token_counter(tokenizer), iter(dialogues), Measures(tokenizer is not None)
    vocabulary, total, next_point = set(), 0, 100
    while batch := list(islice(dialogues, 500)):  # whose messages go to the tokenizer together
        tokens = iter(count([m["content"] for d in batch for m in d.messages]))
        for dialogue in batch:
            source = dialogue.source
            found.turns[source][dialogue.turns] += 1
            found.ends[dialogue.end or "(not said)"] += 1
            found.trimmed[source] += dialogue.usage.get("trimmed", 0)
            found.limited[source] += dialogue.end.startswith(("max_turns", "length"))
            for i, message in enumerate(dialogue.messages):
                role, content = message["role"], message["content"]
                said = words(content)
                n_tokens = next(tokens)
                for side in (found.sides[source, role], found.by_turn[i // 2 + 1, role]):
                    side["messages"] += 1
                    side["words"] += len(said)
                    side["characters"] += len(content)
                    side["tokens"] += n_tokens
                if role == "user" and said and (i or content != dialogue.seed):
                    found.first_words[" ".join(said[:2])] += 1
                vocabulary.update(said)
                total += len(said)
                if total >= next_point:
                    found.growth.append((total, len(vocabulary)))
                    next_point = int(total * 1.25) + 1
    if total and found.growth[-1:] != [(total, len(vocabulary))]:
        found.growth.append((total, len(vocabulary)))
    return found


def stats(dialogues: Iterable[Dialogue] | Measures, tokenizer=None) -> "pd.DataFrame":
    """Make the table of a corpus, one row per source and a last row "all".

    dialogues       : dialogues to count, or the `Measures` of them. How many.
    turns           : exchanges per dialogue, mean.
    user words      : words per user message, mean; assistant words likewise; words: over both.
    user tokens …   : the same in tokens of `tokenizer`, where there is one.
    trimmed answers : share of answers that met the token limit and were cut back to their last whole sentence.
    ended by limit  : share of dialogues that stopped because the turns ("max_turns") or the tokens ("length")
                      ran out, not because the talk was over.
    """
    import pandas as pd

    measured = dialogues if isinstance(dialogues, Measures) else measure(dialogues, tokenizer)
    rows = {source or "(no source)": _row(measured, [source]) for source in sorted(measured.turns)}
    rows["all"] = _row(measured, list(measured.turns))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source")


def _row(measured, sources):
    """One line of `stats`. Means of nothing are 0, so that an empty corpus has a table too."""
    user, assistant = (measured.total(role, sources) for role in ("user", "assistant"))
    dialogues = sum(measured.turns[source].total() for source in sources)
    turns = sum(turns * n for source in sources for turns, n in measured.turns[source].items())
    row = {"dialogues": dialogues, "turns": _share(turns, dialogues)}
    for unit in ("words", "tokens")[: 1 + measured.with_tokens]:
        for name, side in (("user ", user), ("assistant ", assistant), ("", user + assistant)):
            row[name + unit] = _share(side[unit], side["messages"])
    row["trimmed answers"] = _share(sum(measured.trimmed[s] for s in sources), assistant["messages"])
    row["ended by limit"] = _share(sum(measured.limited[s] for s in sources), dialogues)
    return row


def _share(part, whole):
    return part / whole if whole else 0.0


def by_turn(measured: Measures) -> "pd.DataFrame":
    """Tell how long messages are in the first turn, the second …: a DataFrame with one row per turn.

    dialogues : that have this turn. user words, assistant words : per message, mean.
    """
    import pandas as pd

    rows = {}
    for turn in sorted({turn for turn, _ in measured.by_turn}):
        rows[turn] = {"dialogues": measured.by_turn[turn, "user"]["messages"]}
        for role in ("user", "assistant"):
            side = measured.by_turn[turn, role]
            rows[turn][f"{role} words"] = _share(side["words"], side["messages"])
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("turn")


def ends(dialogues: Iterable[Dialogue]) -> dict[str, int]:
    """Count how often each reason to stop occurs, the most frequent first."""
    return dict(Counter(d.end or "(not said)" for d in dialogues).most_common())


def message_words(dialogues: Iterable[Dialogue], role: str) -> list[int]:
    """Count the words of every message of "user" or "assistant", in order."""
    return [len(words(content)) for d in dialogues for content in d.said_by(role)]


def distinct(texts: Iterable[str], at: int = 10_000) -> dict[int, float]:
    """Return distinct-n for n = 1, 2, 3: the share of different ones among all runs of n words (Li et al. 2016).

    Counted in the first `at` words, and the same for every corpus one wants to compare: a longer text repeats more,
    whoever wrote it. Fewer words than `at` are taken as they are.
    """
    runs, left = {1: [], 2: [], 3: []}, at
    for text in texts:
        said = words(text)[:left]
        left -= len(said)
        for n, found in runs.items():
            found.extend(zip(*(said[i:] for i in range(n)), strict=False))
        if not left:
            break
    return {n: _share(len(set(found)), len(found)) for n, found in runs.items()}


def heaps(measured: Measures) -> tuple[float, float]:
    """Fit (k, b) of Heaps' law, distinct words ≈ k · wordsᵇ, to the vocabulary's growth; (0, 0) below two points.

    b near 1: every text brings new words; near 0: always the same ones. About one half is usual for English text. The
    order of the dialogues counts: sources that stand one after another make steps.
    """
    if len(measured.growth) < 2:
        return 0.0, 0.0
    line = linear_regression(*zip(*((math.log(total), math.log(seen)) for total, seen in measured.growth), strict=True))
    return math.exp(line.intercept), line.slope


def _kind(source):
    """The paper's name of a source of ours ("medquad-style" → "MedQuAD"), or ""."""
    first_version = (kind for kind in PAPER if " " not in kind)
    return next((kind for kind in first_version if source.lower().startswith(kind.lower())), "")


def beside_paper(table: "pd.DataFrame") -> "pd.DataFrame":
    """Put the paper's first-version figures for the same kind of source beside those of `stats`."""
    import pandas as pd

    columns = ["paper dialogues", "paper turns", "paper length"]
    paper = pd.DataFrame.from_dict(PAPER, orient="index", columns=columns).astype({"paper dialogues": "Int64"})
    ours = table[["dialogues", "turns", "words"]].assign(paper=[_kind(source) for source in table.index])
    return ours.join(paper, on="paper").drop(columns="paper")


def length_candidates(measured: Measures) -> "pd.DataFrame":
    """Compare what the paper's "length" may count, every unit per every thing, in our corpus with the paper's number.

    One row per candidate ("words per turn"), the nearest first; a column for each self-chat source of the first version
    that we have a kind of; "off by": how many times too large or too small, the geometric mean over the columns. The
    first row is the paper. Ours is another corpus, of another teacher, whose answers a token limit of ours keeps short:
    what is less than twice off may be the right one, and which of these it is cannot be told from here; what is five
    times off is not. Tokens only where they were counted.
    """
    import pandas as pd

    columns = {}
    for kind in _SELF_CHAT:
        if sources := [source for source in measured.turns if _kind(source) == kind]:
            user, assistant = (measured.total(role, sources) for role in ("user", "assistant"))
            both, dialogues = user + assistant, sum(measured.turns[source].total() for source in sources)
            columns[kind] = {}
            for unit in ("words", "characters", "tokens")[: 2 + measured.with_tokens]:
                for name, side in (("", both), ("user ", user), ("assistant ", assistant)):
                    columns[kind][f"{unit} per {name}message"] = _share(side[unit], side["messages"])
                columns[kind][f"{unit} per turn"] = _share(both[unit], user["messages"])
                columns[kind][f"{unit} per dialogue"] = _share(both[unit], dialogues)
    table, printed = pd.DataFrame(columns), {kind: PAPER[kind][2] for kind in columns}
    logs = [
        sum(abs(math.log(row[k] / printed[k])) if row[k] else math.inf for k in columns) for _, row in table.iterrows()
    ]
    table["off by"] = [math.exp(log / len(columns)) for log in logs]
    first = pd.DataFrame([{**printed, "off by": 1.0}], index=["the paper"])
    return pd.concat([first, table.sort_values("off by", kind="stable")]).rename_axis("length")


def rule_table(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES + SUSPICIONS) -> "pd.DataFrame":
    """Count what each rule finds: a DataFrame with one row per rule.

    hits    : dialogues that the rule objects to. share : of all dialogues, 0 … 1.
    only    : those that no other rule here objects to: what the corpus would keep without this rule.
    example : the first dialogue it objects to, and why.
    """
    import pandas as pd

    dialogues = list(dialogues)
    found = findings(dialogues, rules)
    per_dialogue = Counter(name for hits in found.values() for name in hits)
    rows = {
        rule: {
            "hits": len(hits),
            "only": sum(per_dialogue[name] == 1 for name in hits),
            "share": len(hits) / max(1, len(dialogues)),
            "example": next((f"{name}: {why}" for name, why in hits.items()), ""),
        }
        for rule, hits in found.items()
    }
    columns = ["hits", "only", "share", "example"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("rule")


# ---- tokens


def token_counter(tokenizer) -> Callable[[list[str]], list[int]]:
    """Return a function from texts to their numbers of tokens, without special tokens around them.

    tokenizer : of transformers or tokenizers, or None: then the function answers 0 each.
    """
    if tokenizer is None:
        return lambda texts: [0] * len(texts)
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(fast, "encode_batch_fast"):
        return lambda texts: [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    # A copy, without the padding and truncation that an earlier call may have left switched on.
    fast = type(fast).from_str(fast.to_str())
    fast.no_padding()
    fast.no_truncation()

    def count(texts):
        return [len(found) for found in fast.encode_batch_fast(texts, add_special_tokens=False)]

    return _ByParts(count) if cuts_at_spaces(fast) else count


def cuts_at_spaces(tokenizer) -> bool:
    """Tell whether the tokens of a text are those of its parts, when it is cut in front of spaces after a non-space.

    True of a byte-level BPE tokenizer (GPT-2's, SmolLM2's …). Judged by how it is built, not by samples.
    """
    made = json.loads(tokenizer.to_str())
    cut, model = made["pre_tokenizer"] or {}, made["model"]
    return (
        cut.get("type") == "ByteLevel"
        and cut["use_regex"]
        and not cut["add_prefix_space"]
        and not made["normalizer"]
        and model["type"] == "BPE"
        and not (model["dropout"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"])
        and not any(t["lstrip"] or t["rstrip"] or t["single_word"] or " " in t["content"] for t in made["added_tokens"])
    )


class _ByParts:
    """Counts by cutting texts in front of their spaces; a part, most often a word, goes to the tokenizer only once."""

    memory = 1_000_000  # parts whose count is remembered

    def __init__(self, count):
        self.count, self.first, self.later = count, {}, {}  # of parts at the beginning, of parts behind a space

    def __call__(self, texts):
        cut = [text.split(" ") for text in texts]
        self._learn(self.first, {parts[0] for parts in cut}, "")
        self._learn(self.later, set().union(*cut), " ")
        later = self.later.__getitem__
        found = [sum(map(later, parts)) - later(parts[0]) + self.first[parts[0]] for parts in cut]
        odd = [i for i, n in enumerate(found) if n != n]  # NaN: a space inside of white space
        for i, n in zip(odd, self.count([texts[i] for i in odd]), strict=True):
            found[i] = n
        return found

    def _learn(self, known, parts, space):
        """Add the counts of new parts; those that end in white space have none: the space behind them joins it."""
        if len(known) > self.memory:
            known.clear()
        new = list(parts - known.keys())
        counts = self.count([space + part for part in new])
        known.update(
            (part, math.nan if not part or part[-1].isspace() else n) for part, n in zip(new, counts, strict=True)
        )
