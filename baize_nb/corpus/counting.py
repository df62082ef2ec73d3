"""How big a corpus is, source by source, how varied, and how big the paper's was: tables.

Knows: what `measure` counted, and the paper's table. Does not know: which dialogues are good; see rules.py.
"""

import math
from collections import Counter

from .measuring import Measures, Side, measure
from .text import words

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


def paper():
    """The paper's table as a DataFrame, one row per source; pandas has to be asked for, it takes long to load."""
    import pandas as pd

    columns = ["paper dialogues", "paper turns", "paper length"]
    table = pd.DataFrame.from_dict(PAPER, orient="index", columns=columns).astype({"paper dialogues": "Int64"})
    return table.rename_axis("paper")


def stats(dialogues, tokenizer=None):
    """One row per source and a last row "all". Built in notebook 03.

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


def lengths(measured):
    """Length of messages by source and role: number, words (mean, median, the longest tenth begins at), characters and
    tokens (means; tokens only where they were counted), a DataFrame. Built in notebook 03.
    """
    import pandas as pd

    rows = {(source or "(no source)", role): _length(side, measured) for (source, role), side in measured.sides.items()}
    for role in ("user", "assistant"):
        rows["all", role] = _length(_together(measured, measured.turns, role), measured)
    order = sorted(rows, key=lambda key: (key[0] == "all", key[0], key[1] != "user"))
    table = pd.DataFrame([rows[key] for key in order], pd.MultiIndex.from_tuples(order))
    return table.rename_axis(index=["source", "role"])


def by_turn(measured):
    """How long messages are in the first turn, the second …: a DataFrame with one row per turn. Built in notebook 03.

    dialogues : that have this turn. user words, assistant words : per message, mean.
    """
    import pandas as pd

    rows = {}
    for turn in sorted({turn for turn, _ in measured.by_turn}):
        user, assistant = (measured.by_turn[turn, role] for role in ("user", "assistant"))
        means = {
            f"{role} words": _share(s.word_sum, s.messages) for role, s in (("user", user), ("assistant", assistant))
        }
        rows[turn] = {"dialogues": user.messages, **means}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("turn")


def ends(dialogues):
    """How often each reason to stop occurs, as `{reason: dialogues}`, the most frequent first."""
    return dict(Counter(d.end or "(not said)" for d in dialogues).most_common())


def message_words(dialogues, role):
    """Number of words of every message of "user" or "assistant", in order."""
    return [len(words(content)) for d in dialogues for content in d.said_by(role)]


def distinct(texts, at=10_000):
    """{1: …, 2: …, 3: …}: distinct-n, the share of different ones among all runs of n words, 0 … 1 (Li et al. 2016).

    Counted in the first `at` words, and the same for every corpus one wants to compare: a longer text repeats more,
    whoever wrote it. Fewer words than `at` are taken as they are. Built in notebook 03.
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


def heaps(measured):
    """(k, b) of Heaps' law, distinct words ≈ k · wordsᵇ, fitted to the vocabulary's growth; (0, 0) below two points.

    b near 1: every text brings new words; near 0: always the same ones. About one half is usual for English text. The
    order of the dialogues counts: sources that stand one after another make steps. Built in notebook 03.
    """
    if len(measured.growth) < 2:
        return 0.0, 0.0
    from statistics import linear_regression

    xs, ys = zip(*((math.log(total), math.log(seen)) for total, seen in measured.growth), strict=True)
    line = linear_regression(xs, ys)
    return math.exp(line.intercept), line.slope


def beside_paper(table):
    """`stats` with the paper's first-version figures for the same kind of source beside it. Built in notebook 03."""
    ours = table[["dialogues", "turns", "words"]].assign(paper=[_kind(source) for source in table.index])
    return ours.join(paper(), on="paper").drop(columns="paper")


def length_candidates(measured):
    """What the paper's "length" may count: every unit per every thing, in our corpus, beside the paper's number.

    One row per candidate ("words per turn"), the nearest first; a column for each self-chat source of the first version
    that we have a kind of; "off by": how many times too large or too small, the geometric mean over the columns. The
    first row is the paper. Ours is another corpus, of another teacher, whose answers a token limit of ours keeps short:
    what is less than twice off may be the right one, and which of these it is cannot be told from here; what is five
    times off is not. Tokens only where they were counted. Built in notebook 03.
    """
    import pandas as pd

    kinds = {kind: [s for s in measured.turns if _kind(s) == kind] for kind in _SELF_CHAT}
    columns = {kind: _candidates(measured, sources) for kind, sources in kinds.items() if sources}
    table = pd.DataFrame(columns)
    printed = pd.Series({kind: PAPER[kind][2] for kind in columns}, dtype=float)
    logs = [
        sum(abs(math.log(row[k] / printed[k])) if row[k] else math.inf for k in columns) for _, row in table.iterrows()
    ]
    table["off by"] = [math.exp(log / len(columns)) for log in logs]
    first = pd.DataFrame([{**printed, "off by": 1.0}], index=["the paper"])
    return pd.concat([first, table.sort_values("off by", kind="stable")]).rename_axis("length")


def _candidates(measured, sources):
    """{"words per turn": mean, …} of some sources."""
    user, assistant = (_together(measured, sources, role) for role in ("user", "assistant"))
    dialogues = sum(sum(measured.turns[source].values()) for source in sources)
    both = user + assistant
    sums = {"words": Side.word_sum.fget, "characters": lambda side: side.characters}
    if measured.with_tokens:
        sums["tokens"] = lambda side: side.tokens
    found = {}
    for unit, total in sums.items():
        found[f"{unit} per message"] = _share(total(both), both.messages)
        found[f"{unit} per user message"] = _share(total(user), user.messages)
        found[f"{unit} per assistant message"] = _share(total(assistant), assistant.messages)
        found[f"{unit} per turn"] = _share(total(both), user.messages)
        found[f"{unit} per dialogue"] = _share(total(both), dialogues)
    return found


def _kind(source):
    """The paper's name of a source of ours ("medquad-style" → "MedQuAD"), or ""."""
    first_version = (kind for kind in PAPER if " " not in kind)
    return next((kind for kind in first_version if source.lower().startswith(kind.lower())), "")


def _row(measured, sources):
    """One line of `stats`. Means of nothing are 0, so that an empty corpus has a table too."""
    user, assistant = (_together(measured, sources, role) for role in ("user", "assistant"))
    both = user + assistant
    dialogues = sum(sum(measured.turns[source].values()) for source in sources)
    turns = sum(turns * n for source in sources for turns, n in measured.turns[source].items())
    named = {"user ": user, "assistant ": assistant, "": both}
    tokens = {f"{name}tokens": _share(side.tokens, side.messages) for name, side in named.items()}
    return {
        "dialogues": dialogues,
        "turns": _share(turns, dialogues),
        **{f"{name}words": _share(side.word_sum, side.messages) for name, side in named.items()},
        **(tokens if measured.with_tokens else {}),
        "trimmed answers": _share(sum(measured.trimmed[s] for s in sources), assistant.messages),
        "ended by limit": _share(sum(measured.limited[s] for s in sources), dialogues),
    }


def _length(side, measured):
    """One line of `lengths`."""
    return {
        "messages": side.messages,
        "words": _share(side.word_sum, side.messages),
        "median words": side.quantile(0.5),
        "longest tenth from": side.quantile(0.9),
        "characters": _share(side.characters, side.messages),
        **({"tokens": _share(side.tokens, side.messages)} if measured.with_tokens else {}),
    }


def _together(measured, sources, role):
    """The `Side` of one role over several sources."""
    return sum((measured.sides.get((source, role), Side()) for source in sources), Side())


def _share(part, whole):
    return part / whole if whole else 0.0
