"""How big a corpus is, source by source, how varied, what its rules find, and how big the paper's was: tables."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from statistics import linear_regression
from typing import TYPE_CHECKING

from ..text import words
from .cleaning import RULES, SUSPICIONS, Rule, findings
from .dialogues import Dialogue

if TYPE_CHECKING:  # takes half a second to load
    import pandas as pd

# Baize (arXiv 2304.01196), table 1. It prints the length without its unit, and does not say what is averaged.
PAPER = {
    "Alpaca": (51_942, 1.0, 44.2),
    "Quora": (54_456, 3.9, 35.9),
    "StackOverflow": (57_046, 3.6, 36.0),
    "MedQuAD": (46_867, 3.8, 35.8),
}


@dataclass
class Measures:
    """What `measure` counted; everything but `growth` is a sum, so that those of two corpora can be added.

    messages    : {(source, turns of the dialogue, turn from 1, role): {"messages", "words", "tokens"}}.
    dialogues   : {source: {"dialogues", "turns", "trimmed", "limited"}}: the last two are answers cut back to a whole
                  sentence, and dialogues that ran out of turns or tokens.
    first_words : {first two words: questions}, without first questions that are the seed: a person wrote those.
    growth      : [(words read, distinct words among them)], rising.
    """

    with_tokens: bool
    messages: dict = field(default_factory=lambda: defaultdict(Counter))
    dialogues: dict = field(default_factory=lambda: defaultdict(Counter))
    first_words: Counter = field(default_factory=Counter)
    growth: list = field(default_factory=list)


def measure(dialogues: Iterable[Dialogue], tokenizer=None) -> Measures:
    """Count everything in one pass; memory grows with the vocabulary only.

    tokenizer : of transformers; None counts no tokens. Those of markers and special tokens are not counted.
    """
    dialogues, found = iter(dialogues), Measures(tokenizer is not None)
    vocabulary, total, next_point = set(), 0, 100
    known = {} if tokenizer and cuts_at_spaces(tokenizer) else None
    while batch := list(islice(dialogues, 500)):  # whose messages go to the tokenizer together
        texts = [message["content"] for dialogue in batch for message in dialogue.messages]
        tokens = iter(count_tokens(texts, tokenizer, known) if tokenizer else [0] * len(texts))
        for dialogue in batch:
            trimmed, limited = dialogue.usage.get("trimmed", 0), dialogue.end.startswith(("max_turns", "length"))
            sums = found.dialogues[dialogue.source]
            sums.update(dialogues=1, turns=dialogue.turns, trimmed=trimmed, limited=limited)
            for i, message in enumerate(dialogue.messages):
                content, said = message["content"], words(message["content"])
                key = (dialogue.source, dialogue.turns, i // 2 + 1, message["role"])
                counts = found.messages[key]
                counts["messages"] += 1
                counts["words"] += len(said)
                counts["tokens"] += next(tokens)
                if i % 2 == 0 and said and (i or content != dialogue.seed):
                    found.first_words[" ".join(said[:2])] += 1
                vocabulary.update(said)
                total += len(said)
                if total >= next_point:
                    found.growth.append((total, len(vocabulary)))
                    next_point = int(total * 1.25) + 1
    if total and found.growth[-1:] != [(total, len(vocabulary))]:
        found.growth.append((total, len(vocabulary)))
    return found


def cuts_at_spaces(tokenizer) -> bool:
    """Tell whether the tokens of a text are those of its parts, when it is cut in front of spaces after a non-space.

    True of byte-level BPE tokenizers (GPT-2, SmolLM2 …), which write a space as Ġ: no token has one behind a letter.
    """
    inside = re.compile("[^ĠĊčĉċČ▁][Ġ▁]")
    alike = tokenizer.tokenize("a a") == tokenizer.tokenize("a") + tokenizer.tokenize(" a")
    return alike and not any(map(inside.search, tokenizer.get_vocab()))


def count_tokens(texts: list[str], tokenizer, known: dict | None = None) -> list[int]:
    """Count the tokens of each text. known : {part of a text: its tokens}, so that each part is counted once."""
    if known is None:
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    cut = [re.split(r"(?<=\S)(?= )", text) for text in texts]
    if new := list(set(chain.from_iterable(cut)) - known.keys()):
        known.update(zip(new, count_tokens(new, tokenizer), strict=True))
    return [sum(known[part] for part in parts) for parts in cut]


def _share(part, whole):
    return part / whole if whole else 0.0


def stats(dialogues: Iterable[Dialogue] | Measures, tokenizer=None) -> "pd.DataFrame":
    """Make the table of a corpus, or of the `Measures` of one: a row per source and a last row "all".

    dialogues : how many. turns : exchanges per dialogue, mean. user words, assistant words, words : per message, mean;
    tokens likewise, where there is a tokenizer. trimmed answers : share of those that met the token limit and were cut
    back to their last whole sentence. ended by limit : share of dialogues that stopped because turns or tokens ran out.
    """
    import pandas as pd

    measured = dialogues if isinstance(dialogues, Measures) else measure(dialogues, tokenizer)
    rows = {}
    for name in [*sorted(measured.dialogues), None]:
        whole, sides = Counter(), {"user": Counter(), "assistant": Counter()}
        for source, counts in measured.dialogues.items():
            if name in (None, source):
                whole.update(counts)
        for (source, _, _, role), counts in measured.messages.items():
            if name in (None, source):
                sides[role].update(counts)
        user, assistant = sides.values()
        row = {"dialogues": whole["dialogues"], "turns": _share(whole["turns"], whole["dialogues"])}
        for unit in ("words", "tokens")[: 1 + measured.with_tokens]:
            for side, counts in (("user ", user), ("assistant ", assistant), ("", user + assistant)):
                row[f"{side}{unit}"] = _share(counts[unit], counts["messages"])
        row["trimmed answers"] = _share(whole["trimmed"], assistant["messages"])
        row["ended by limit"] = _share(whole["limited"], whole["dialogues"])
        rows["all" if name is None else name or "(no source)"] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source")


def by_turn(measured: Measures, turns: int = 1) -> "pd.DataFrame":
    """Tell how long messages are (means in words) in the first turn, the second …

    turns : only of dialogues that have so many; else a later turn holds fewer dialogues, and others.
    """
    import pandas as pd

    sums = defaultdict(Counter)
    for (_, length, turn, role), counts in measured.messages.items():
        if length >= turns:
            sums[turn].update({"dialogues": counts["messages"] * (role == "user"), f"{role} words": counts["words"]})
    table = pd.DataFrame.from_dict(sums, orient="index").sort_index().rename_axis("turn")
    words = [column for column in table if column != "dialogues"]
    table[words] = table[words].div(table["dialogues"], axis=0)
    return table


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
    totals, seen = ([math.log(n) for n in column] for column in zip(*measured.growth, strict=True))
    line = linear_regression(totals, seen)
    return math.exp(line.intercept), line.slope


def beside_paper(table: "pd.DataFrame") -> "pd.DataFrame":
    """Put the paper's first-version figures for the same kind of source beside those of `stats`."""
    import pandas as pd

    columns = ["paper dialogues", "paper turns", "paper length"]
    paper = pd.DataFrame.from_dict(PAPER, orient="index", columns=columns).astype({"paper dialogues": "Int64"})
    # "medquad-style" is beside "MedQuAD".
    kinds = [next((kind for kind in PAPER if source.lower().startswith(kind.lower())), "") for source in table.index]
    ours = table[["dialogues", "turns", "words"]].assign(paper=kinds)
    return ours.join(paper, on="paper").drop(columns="paper")


def rule_table(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES + SUSPICIONS) -> "pd.DataFrame":
    """Count what each rule finds: a DataFrame with one row per rule.

    hits : dialogues that the rule objects to. share : of all, 0 … 1. only : those that no other rule here objects to,
    what the corpus would keep without this rule. example : the first dialogue it objects to, and why.
    """
    import pandas as pd

    dialogues = list(dialogues)
    found = findings(dialogues, rules)
    met = Counter(name for hits in found.values() for name in hits)
    rows = []
    for hits in found.values():
        only = sum(met[name] == 1 for name in hits)
        example = next((f"{name}: {why}" for name, why in hits.items()), "")
        rows.append((len(hits), only, _share(len(hits), len(dialogues)), example))
    return pd.DataFrame(rows, pd.Index(found, name="rule"), ["hits", "only", "share", "example"])
