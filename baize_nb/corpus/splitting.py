"""Which dialogues are kept away from training, and whether a test was seen in training all the same.

Seeds, near duplicates, and runs of words from evaluation prompts are found; what is said in other words is not.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ..common import CourseError
from ..text import fold, words
from .cleaning import connected, similar, whole_text
from .dialogues import Dialogue

# Nearer than dialogues have to be: short questions from one mould ("What are the genetic changes related to …") share
# most of their trigrams and ask about different things.
NEAR_SEEDS = 0.8


def seed_key(dialogue: Dialogue) -> str:
    """Return the seed's text without regard to case and spacing; the first question where a corpus names no seed."""
    return " ".join(fold(dialogue.seed or dialogue.messages[0]["content"]).split())


def split(
    dialogues: Iterable[Dialogue], heldout: int, seed: int = 0, near: float | None = 0.7
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Split into (train, heldout), two lists sorted by id; no seed, no near duplicate on both sides.

    heldout : how many dialogues to keep away, in proportion to the sources; there may be a few less, since those of one
              seed, of seeds at least 0.8 similar, and of trigram Jaccard similarity `near` stay together (None: only
              those of one seed). Neither their order nor chance changes the choice, only `seed` does.
    Raises CourseError where there are too few dialogues to keep `heldout` away and still train on one.
    """
    dialogues = sorted(dialogues, key=lambda d: (d.id, d.to_json()))
    taken = heldout_positions(dialogues, heldout, seed, near)
    train = [d for i, d in enumerate(dialogues) if i not in taken]
    return train, [dialogues[i] for i in sorted(taken)]


def heldout_positions(
    dialogues: Iterable[Dialogue], heldout: int, seed: int = 0, near: float | None = 0.7, sketches=None
) -> set[int]:
    """Return the indexes that `split` keeps away: for a `stream`, of which no list is made. sketches: see `sketch`."""

    def stays(i, found):
        return 1 not in found.values()  # what is near an exact copy is near its twin, which is there already

    keys, sources = [], []
    for dialogue in dialogues:
        keys.append(seed_key(dialogue))
        sources.append(dialogue.source)
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    pairs = [(i, first[key]) for i, key in enumerate(keys)]
    if near is not None:
        seeds, places = list(first), list(first.values())
        for i, found in similar(seeds, str, NEAR_SEEDS, stays):
            pairs += [(places[i], places[j]) for j in found]
        for i, found in similar(dialogues, whole_text, near, stays, sketches):
            pairs += [(i, j) for j in found]
    groups = defaultdict(list)
    for i, root in connected(pairs).items():
        groups[root].append(i)
    if not 1 <= heldout < len(keys) or len(groups) < 2:
        fault = f"Cannot keep {heldout} of {len(keys)} dialogues ({len(groups)} different seeds) away"
        remedy = "Ask for fewer, or collect more dialogues in notebook 02."
        raise CourseError(f"{fault} and still train on the rest. {remedy}")

    def rank(group):
        # By a hash, not a shuffle: the choice hangs on the seeds themselves and on nothing else.
        key = min(keys[i] for i in group)
        return hashlib.sha256(f"{seed}\0{key}".encode()).digest()

    taken = _take(sorted(groups.values(), key=rank), sources, heldout)
    if not taken:
        raise CourseError(f"Every seed has more than {heldout} dialogues, and they must stay together. Ask for more.")
    return taken


def _take(groups, sources, heldout):
    """The indexes to keep away: each source gives its share, what rounding leaves is filled from any source."""
    sizes = Counter()
    for group in groups:
        sizes[min(sources[i] for i in group)] += len(group)
    # In proportion, summing to `heldout`: the largest remainders round up.
    room = {source: heldout * size // len(sources) for source, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda source: (-(heldout * sizes[source] % len(sources)), source))
    for source in by_remainder[: heldout - sum(room.values())]:
        room[source] += 1
    taken, left = set(), list(groups)
    for anywhere in (False, True):
        for group in list(left):
            source = min(sources[i] for i in group)
            fits = len(taken) + len(group) <= heldout and len(left) > 1
            if fits and (anywhere or len(group) <= room[source]):
                left.remove(group)
                taken.update(group)
                room[source] -= len(group)
    return taken


class Leakage(NamedTuple):
    """What training and held-out dialogues have in common. True in a condition where there is something.

    seeds, near_seeds, near : [(train id, held-out id, similarity)] with the same seed, nearly the same seed, nearly the
    same text; each held-out dialogue at most once, with the training dialogue that is nearest.
    """

    train: int
    heldout: int
    seeds: list
    near_seeds: list
    near: list

    def __bool__(self):
        return bool(self.seeds or self.near_seeds or self.near)

    def __str__(self):
        lines = [f"{self.train:,} dialogues to train on, {self.heldout:,} held out"]
        found = {"same seed": self.seeds, "nearly the same seed": self.near_seeds, "near duplicate": self.near}
        for what, pairs in found.items():
            lines.append(f"  {what}: {len(pairs):,} of the held-out")
            lines += [f"    {heldout} ← {train} ({share:.0%} in common)" for train, heldout, share in pairs[:3]]
        return "\n".join(lines)


def leakage(train: Iterable[Dialogue], heldout: Iterable[Dialogue], near: float = 0.7) -> Leakage:
    """Find what two lists of dialogues have in common: seeds (from 0.8 on), texts (from similarity `near` on)."""
    train, heldout = list(train), list(heldout)

    def nearest(said, threshold):
        pairs = []
        for i, found in similar([*train, *heldout], said, threshold, lambda i, found: i < len(train)):
            if i >= len(train):
                j = max(found, key=lambda j: (found[j], -j))
                pairs.append((train[j].id, heldout[i - len(train)].id, found[j]))
        return pairs

    seeds = nearest(seed_key, NEAR_SEEDS)
    same = [found for found in seeds if found[2] == 1]
    alike = [found for found in seeds if found not in same]
    return Leakage(len(train), len(heldout), same, alike, nearest(whole_text, near))


def prompt_overlap(dialogues: Iterable[Dialogue], prompts: list[str], n: int = 8) -> dict[int, tuple]:
    """Find prompts that have a run of `n` words in common with a dialogue; a shorter text is one run.

    Returns {index of a prompt: (share of its runs, 0 … 1, id of a dialogue, one of the runs)}. Eight words in a row are
    rarely chance, but quotations and phrases do occur: read them.
    """

    def runs(text):
        said = words(text)
        return {" ".join(said[i : i + n]) for i in range(max(1, len(said) - n + 1))} - {""}

    of_prompts = [runs(prompt) for prompt in prompts]
    wanted, seen = set().union(*of_prompts), {}
    for dialogue in dialogues:
        for message in dialogue.messages:
            for run in runs(message["content"]) & wanted:
                seen.setdefault(run, dialogue.id)
    found = {}
    for i, own in enumerate(of_prompts):
        if met := sorted(own & seen.keys()):
            found[i] = (len(met) / len(own), seen[met[0]], met[0])
    return found
