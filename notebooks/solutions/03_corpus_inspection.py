"""Solutions to the exercises of notebook 03: one plain function per exercise."""

import random
from collections import defaultdict

from baize_nb import corpus
from baize_nb.corpus import cleaning


def strict_loop(dialogue):
    """Exercise 1: the package's loop rule with half its limit."""
    return cleaning.loop(dialogue, limit=0.15)


def parrot(dialogue):
    """Exercise 2: an answer whose first five words stand next to each other in its question."""
    said = [corpus.words(message["content"]) for message in dialogue.messages]
    for question, answer in zip(said[::2], said[1::2], strict=True):
        opening = answer[:5]
        if len(opening) == 5 and any(question[i : i + 5] == opening for i in range(len(question))):
            return f"an answer opens with its question's words: {' '.join(opening)!r}"
    return ""


def my_split(dialogues, heldout):
    """Exercise 3: whole seeds go to one side; sorting comes before chance."""
    groups = defaultdict(list)
    for dialogue in dialogues:
        groups[corpus.seed_key(dialogue)].append(dialogue)
    keys = sorted(groups)
    random.Random(0).shuffle(keys)
    kept = []
    while len(kept) < heldout:
        kept += groups.pop(keys.pop())
    return [dialogue for key in keys for dialogue in groups[key]], kept
