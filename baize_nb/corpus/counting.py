"""How big a corpus is, source by source, and how big the paper's was.

Knows: turns, words, ends. Does not know: which dialogues are good; see cleaning.py.
"""

from collections import Counter

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


def paper():
    """The paper's table as a DataFrame, one row per source; pandas has to be asked for, it takes long to load."""
    import pandas as pd

    columns = ["paper dialogues", "paper turns", "paper length"]
    table = pd.DataFrame.from_dict(PAPER, orient="index", columns=columns).astype({"paper dialogues": "Int64"})
    return table.rename_axis("paper")


def stats(dialogues):
    """One row per source and a last row "all". Built in notebook 03.

    dialogues       : how many.
    turns           : exchanges per dialogue, mean.
    user words      : words per user message, mean; assistant words likewise; words: over both.
    trimmed answers : share of answers that met the token limit and were cut back to their last whole sentence.
    ended by limit  : share of dialogues that stopped because the turns ("max_turns") or the tokens ("length")
                      ran out, not because the talk was over.
    """
    import pandas as pd

    groups = {source: [d for d in dialogues if d.source == source] for source in sorted({d.source for d in dialogues})}
    rows = {source or "(no source)": _row(group) for source, group in groups.items()}
    rows["all"] = _row(dialogues)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source")


def ends(dialogues):
    """How often each reason to stop occurs, as `{reason: dialogues}`, the most frequent first."""
    return dict(Counter(d.end or "(not said)" for d in dialogues).most_common())


def message_words(dialogues, role):
    """Number of words of every message of "user" or "assistant", in order."""
    return [len(words(content)) for d in dialogues for content in d.said_by(role)]


def beside_paper(table):
    """`stats` with the paper's first-version figures for the same kind of source beside it. Built in notebook 03."""
    ours = table[["dialogues", "turns", "words"]].assign(paper=[_kind(source) for source in table.index])
    return ours.join(paper(), on="paper").drop(columns="paper")


def _kind(source):
    """The paper's name of a source of ours ("medquad-style" → "MedQuAD"), or ""."""
    first_version = (kind for kind in PAPER if " " not in kind)
    return next((kind for kind in first_version if source.lower().startswith(kind.lower())), "")


def _row(dialogues):
    """One line of `stats`. Means of nothing are 0, so that an empty corpus has a table too."""
    user, assistant = message_words(dialogues, "user"), message_words(dialogues, "assistant")
    return {
        "dialogues": len(dialogues),
        "turns": _mean([d.turns for d in dialogues]),
        "user words": _mean(user),
        "assistant words": _mean(assistant),
        "words": _mean(user + assistant),
        "trimmed answers": sum(d.usage.get("trimmed", 0) for d in dialogues) / max(1, len(assistant)),
        "ended by limit": _mean([d.end.startswith(("max_turns", "length")) for d in dialogues]),
    }


def _mean(values):
    return sum(values) / len(values) if values else 0.0
