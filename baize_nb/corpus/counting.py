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

MEMORY = 1_000_000  # parts of texts whose tokens are remembered
# Baize (arXiv 2304.01196), table 1. It prints the length without its unit, and does not say what is averaged.
PAPER = {
    "Alpaca": (51_942, 1.0, 44.2),
    "Quora": (54_456, 3.9, 35.9),
    "StackOverflow": (57_046, 3.6, 36.0),
    "MedQuAD": (46_867, 3.8, 35.8),
    "Quora v2": (55_770, 3.0, 149.6),
    "StackOverflow v2": (112_343, 3.9, 78.2),
}


def _counters():
    return defaultdict(Counter)


@dataclass
class Measures:
    """What `measure` counted; everything but `growth` is a sum, so that those of two corpora can be added.

    sides, by_turn : {(source, role): {"messages", "words", "characters", "tokens"}}; by (turn from 1, role).
    turns       : {source: {turns of a dialogue: dialogues}}. ends : {reason to stop: dialogues}.
    trimmed, limited : {source: answers cut back to a whole sentence, dialogues that ran out of turns or tokens}.
    first_words : {first two words: questions}, without first questions that are the seed: a person wrote those.
    growth      : [(words read, distinct words among them)], rising.
    """

    with_tokens: bool
    sides: dict = field(default_factory=_counters)
    by_turn: dict = field(default_factory=_counters)
    turns: dict = field(default_factory=_counters)
    ends: Counter = field(default_factory=Counter)
    trimmed: Counter = field(default_factory=Counter)
    limited: Counter = field(default_factory=Counter)
    first_words: Counter = field(default_factory=Counter)
    growth: list = field(default_factory=list)

    def means(self, sources) -> dict:
        """Return means over some sources: turns per dialogue; words, characters, tokens by "message", "turn" …"""
        user, assistant = (
            sum((self.sides[source, role] for source in sources if (source, role) in self.sides), Counter())
            for role in ("user", "assistant")
        )
        dialogues, found = sum(self.turns[source].total() for source in sources), {}
        for unit in ("words", "characters", "tokens")[: 2 + self.with_tokens]:
            both = user[unit] + assistant[unit]
            found |= {
                f"{unit} per message": _share(both, user["messages"] + assistant["messages"]),
                f"{unit} per user message": _share(user[unit], user["messages"]),
                f"{unit} per assistant message": _share(assistant[unit], assistant["messages"]),
                f"{unit} per turn": _share(both, user["messages"]),
                f"{unit} per dialogue": _share(both, dialogues),
            }
        turns = sum(turns * n for source in sources for turns, n in self.turns[source].items())
        return found | {"dialogues": dialogues, "turns": _share(turns, dialogues), "answers": assistant["messages"]}


def _share(part, whole):
    return part / whole if whole else 0.0


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
    """Make the table of a corpus, or of the `Measures` of one: a row per source and a last row "all".

    dialogues : how many. turns : exchanges per dialogue, mean. user words, assistant words, words : per message, mean;
    tokens likewise, where there is a tokenizer. trimmed answers : share of those that met the token limit and were cut
    back to their last whole sentence. ended by limit : share of dialogues that stopped because turns or tokens ran out.
    """
    import pandas as pd

    measured, rows = dialogues if isinstance(dialogues, Measures) else measure(dialogues, tokenizer), {}
    for name in [*sorted(measured.turns), None]:
        sources = list(measured.turns) if name is None else [name]
        means = measured.means(sources)
        row = rows["all" if name is None else name or "(no source)"] = {
            key: means[key] for key in ("dialogues", "turns")
        }
        for unit in ("words", "tokens")[: 1 + measured.with_tokens]:
            row |= {f"{side}{unit}": means[f"{unit} per {side}message"] for side in ("user ", "assistant ", "")}
        row["trimmed answers"] = _share(sum(measured.trimmed[s] for s in sources), means["answers"])
        row["ended by limit"] = _share(sum(measured.limited[s] for s in sources), means["dialogues"])
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source")


def by_turn(measured: Measures) -> "pd.DataFrame":
    """Tell how long messages are (means in words) in the first turn, the second …, and how many dialogues have it."""
    import pandas as pd

    rows = {}
    for turn in sorted({turn for turn, _ in measured.by_turn}):
        user, assistant = (measured.by_turn[turn, role] for role in ("user", "assistant"))
        words = {
            f"{name} words": side["words"] / side["messages"]
            for name, side in (("user", user), ("assistant", assistant))
        }
        rows[turn] = {"dialogues": user["messages"], **words}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("turn")


def ends(dialogues: Iterable[Dialogue]) -> dict[str, int]:
    """Count how often each reason to stop occurs, the most frequent first."""
    return dict(Counter(d.end or "(not said)" for d in dialogues).most_common())


def message_words(dialogues: Iterable[Dialogue], role: str) -> list[int]:
    """Count the words of every message of "user" or "assistant", in order."""
    return [len(words(content)) for d in dialogues for content in d.said_by(role)]


def distinct(texts: Iterable[str], at: int = 10_000) -> dict[int, float]:
    """Return distinct-n for n = 1, 2, 3: the share of different ones among all runs of n words (Li et al. 2016).

    Counted in the first `at` words: a longer text repeats more, whoever wrote it.
    """
    runs, left = {1: [], 2: [], 3: []}, at
    for text in texts:
        said = words(text)[:left]
        left -= len(said)
        for n, found in runs.items():
            found.extend(zip(*(said[i:] for i in range(n)), strict=False))
    return {n: _share(len(set(found)), len(found)) for n, found in runs.items()}


def heaps(measured: Measures) -> tuple[float, float]:
    """Fit (k, b) of Heaps' law, distinct words ≈ k · wordsᵇ, to the vocabulary's growth; (0, 0) below two points.

    b near 1: every text brings new words; near 0: always the same ones. About one half is usual for English text.
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

    A row per candidate, the nearest first; a column for each self-chat source of the first version that we have a kind
    of; "off by": how many times too large or too small, the geometric mean over these. The first row is the paper. Ours
    is another corpus with other limits: less than twice off may be the right one, five times off is not.
    """
    import pandas as pd

    columns = {}
    for kind in ("Quora", "StackOverflow", "MedQuAD"):
        if sources := [source for source in measured.turns if _kind(source) == kind]:
            columns[kind] = {key: mean for key, mean in measured.means(sources).items() if " per " in key}
    table, printed = pd.DataFrame(columns), {kind: PAPER[kind][2] for kind in columns}
    logs = [
        [abs(math.log(row[k] / printed[k])) if row[k] else math.inf for k in columns] for _, row in table.iterrows()
    ]
    table["off by"] = [math.exp(sum(log) / len(log)) for log in logs]
    first = pd.DataFrame([{**printed, "off by": 1.0}], index=["the paper"])
    return pd.concat([first, table.sort_values("off by", kind="stable")]).rename_axis("length")


def rule_table(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES + SUSPICIONS) -> "pd.DataFrame":
    """Count what each rule finds: a DataFrame with one row per rule.

    hits : dialogues that the rule objects to. share : of all, 0 … 1. only : those that no other rule here objects to,
    what the corpus would keep without this rule. example : the first dialogue it objects to, and why.
    """
    import pandas as pd

    dialogues = list(dialogues)
    found = findings(dialogues, rules)
    per_dialogue = Counter(name for hits in found.values() for name in hits)
    rows = []
    for hits in found.values():
        only, example = sum(per_dialogue[name] == 1 for name in hits), next(iter(hits.items()), ())
        rows.append((len(hits), only, len(hits) / max(1, len(dialogues)), ": ".join(example)))
    return pd.DataFrame(rows, pd.Index(found, name="rule"), ["hits", "only", "share", "example"])


# ---- tokens


def token_counter(tokenizer) -> Callable[[list[str]], list[int]]:
    """Return a function from texts to their numbers of tokens, special ones aside; 0 each for no tokenizer."""
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

    if not cuts_at_spaces(fast):
        return count
    first, later = {}, {}  # tokens of parts at the beginning of a text, of parts behind a space

    def learn(known, parts, space):
        if len(known) > MEMORY:
            known.clear()
        new = list(parts - known.keys())
        # A part that ends in white space has no count of its own: the space behind it joins it.
        counts = zip(new, count([space + part for part in new]), strict=True)
        known.update((part, n if part and not part[-1].isspace() else math.nan) for part, n in counts)

    def count_by_parts(texts):
        cut = [text.split(" ") for text in texts]
        learn(first, {parts[0] for parts in cut}, "")
        learn(later, set().union(*cut), " ")
        found = [sum(map(later.__getitem__, parts)) - later[parts[0]] + first[parts[0]] for parts in cut]
        odd = [i for i, n in enumerate(found) if math.isnan(n)]
        for i, n in zip(odd, count([texts[i] for i in odd]), strict=True):
            found[i] = n
        return found

    return count_by_parts


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
