"""Which dialogues are kept away from training, and whether a test was seen in training all the same.

Seeds, near duplicates, and runs of words from evaluation prompts are found; what is said in other words is not.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..common import CourseError
from ..text import fold, words
from .dialogue import Dialogue
from .duplicates import Candidates, Groups, all_words

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
    dialogues = list(dialogues)
    taken = heldout_positions(dialogues, heldout, seed, near)
    # By id, and by content where ids are equal, so that the order they came in leaves no trace.
    unique = len({d.id for d in dialogues}) == len(dialogues)
    order = sorted(range(len(dialogues)), key=lambda i: (dialogues[i].id, "" if unique else dialogues[i].to_json()))
    return [dialogues[i] for i in order if i not in taken], [dialogues[i] for i in order if i in taken]


def heldout_positions(
    dialogues: Iterable[Dialogue], heldout: int, seed: int = 0, near: float | None = 0.7, sketches=None
) -> set[int]:
    """Return the indexes that `split` keeps away: for a `stream`, of which no list is made. sketches: see `sketch`."""
    keys, sources = [], []
    for dialogue in dialogues:
        keys.append(seed_key(dialogue))
        sources.append(dialogue.source)
    together, first = Groups(), {key: i for i, key in reversed(list(enumerate(keys)))}
    if near is not None:
        seeds = Groups()
        seeds.link(first, words, NEAR_SEEDS)
        places = list(first.values())
        together.update((places[i], places[j]) for i, j in seeds.items())
        together.link(dialogues, all_words, near, sketches)
    for i, key in enumerate(keys):
        together[together.root(i)] = together.root(first[key])
    groups = {min(keys[i] for i in group): group for group in together.lists()}
    if not 1 <= heldout < len(keys) or len(groups) < 2:
        raise CourseError(
            f"Cannot keep {heldout} of {len(keys)} dialogues ({len(groups)} different seeds) away and still train "
            "on the rest. Ask for fewer, or collect more dialogues in notebook 02."
        )
    return {i for key in _take(groups, sources, heldout, seed) for i in groups[key]}


def _take(groups, sources, heldout, seed):
    """The group keys to keep away: each source gives its share, what rounding leaves is filled from any source."""
    # Ranking by a hash, not a shuffle: the choice hangs on the seeds themselves and on nothing else.
    ranked = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    home = {key: min(sources[i] for i in group) for key, group in groups.items()}
    sizes = defaultdict(int)
    for key, group in groups.items():
        sizes[home[key]] += len(group)
    # In proportion, summing to `heldout`: the largest remainders round up.
    room = {source: heldout * size // len(sources) for source, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda source: (-(heldout * sizes[source] % len(sources)), source))
    for source in by_remainder[: heldout - sum(room.values())]:
        room[source] += 1
    taken, left = set(), heldout
    for anywhere in (False, True):
        for key in ranked:
            size, source = len(groups[key]), home[key]
            fits = size <= left and (anywhere or size <= room[source]) and len(taken) < len(groups) - 1
            if key not in taken and fits:
                taken.add(key)
                room[source] -= size
                left -= size
    if not taken:
        raise CourseError(f"Every seed has more than {heldout} dialogues, and they must stay together. Ask for more.")
    return taken


@dataclass
class Leakage:
    """What training and held-out dialogues have in common. True in a condition where there is something.

    seeds, near_seeds, near : [(train id, held-out id, similarity)] with the same seed (without similarity), nearly the
    same seed, nearly the same text; each held-out dialogue at most once, with the training dialogue that is nearest.
    """

    train: int
    heldout: int
    seeds: list
    near_seeds: list
    near: list

    def __bool__(self):
        return bool(self.seeds or self.near_seeds or self.near)

    def __str__(self):
        found = {"same seed": self.seeds, "nearly the same seed": self.near_seeds, "near duplicate": self.near}
        lines = [f"{self.train:,} dialogues to train on, {self.heldout:,} held out"]
        for what, pairs in found.items():
            lines.append(f"  {what}: {len(pairs):,} of the held-out")
            for train, heldout, *share in pairs[:3]:
                lines.append(f"    {heldout} ← {train}" + (f" ({share[0]:.0%} in common)" if share else ""))
        return "\n".join(lines)


def leakage(train: Iterable[Dialogue], heldout: Iterable[Dialogue], near: float = 0.7) -> Leakage:
    """Find what two lists of dialogues have in common: seeds (from 0.8 on), texts (from similarity `near` on)."""
    train, heldout = list(train), list(heldout)
    by_key = {seed_key(d): d.id for d in reversed(train)}
    seeds = [(by_key[seed_key(d)], d.id) for d in heldout if seed_key(d) in by_key]
    same = {name for _, name in seeds}

    def nearest(threshold, said):
        candidates, found = Candidates([*train, *heldout], said), []
        for i in candidates.rows:  # rising, so that all of training is in before the first held-out one asks
            if i < len(train):
                candidates.insert(i)
                continue
            share, j = candidates.nearest(i)
            if share >= threshold:
                found.append((train[j].id, heldout[i - len(train)].id, share))
        return found

    near_seeds = nearest(NEAR_SEEDS, lambda dialogue: words(seed_key(dialogue)))
    near_seeds = [found for found in near_seeds if found[1] not in same]
    return Leakage(len(train), len(heldout), seeds, near_seeds, nearest(near, all_words))


@dataclass
class PromptOverlap:
    """Runs of `n` words that a corpus has in common with `prompts` prompts. True in a condition where there are any.

    dialogues : how many have a run of some prompt in them. shared : {index of a prompt: share of its runs, 0 … 1}.
    examples : {index: (id of a dialogue, the run)}. too_short : indexes of those that only whole messages could match.
    """

    n: int
    prompts: int
    dialogues: int = 0
    shared: dict = field(default_factory=dict)
    examples: dict = field(default_factory=dict)
    too_short: list = field(default_factory=list)

    def __bool__(self):
        return bool(self.shared)

    def __str__(self):
        found = f"{len(self.shared):,} of {self.prompts:,} prompts share a run of {self.n} words"
        lines = [f"{found} with {self.dialogues:,} dialogues"]
        for i in sorted(self.shared, key=lambda i: (-self.shared[i], i))[:5]:
            name, run = self.examples[i]
            lines.append(f"  prompt {i}: {self.shared[i]:.0%} of its runs, for example in {name}: “{run}”")
        if self.too_short:
            lines.append(f"  {len(self.too_short):,} prompts are shorter than that: compared with whole messages only")
        return "\n".join(lines)


def prompt_overlap(dialogues: Iterable[Dialogue], prompts: list[str], n: int = 8) -> PromptOverlap:
    """Find runs of `n` words that a corpus has in common with evaluation prompts. Eight in a row are rarely chance,
    but quotations and phrases do occur: read the examples.
    """

    def runs(said):
        return set(zip(*(said[i:] for i in range(n)), strict=False)) or {tuple(said)} - {()}

    report = PromptOverlap(n, len(prompts))
    of_prompts = [runs(words(prompt)) for prompt in prompts]
    report.too_short = [i for i, prompt in enumerate(prompts) if len(words(prompt)) < n]
    seen = dict.fromkeys(set().union(*of_prompts))
    for dialogue in dialogues:
        hits = {run for message in dialogue.messages for run in runs(words(message["content"])) if run in seen}
        report.dialogues += bool(hits)
        for run in hits:
            seen[run] = seen[run] or dialogue.id
    for i, wanted in enumerate(of_prompts):
        if found := sorted(run for run in wanted if seen[run]):
            report.shared[i] = len(found) / len(wanted)
            report.examples[i] = (seen[found[0]], " ".join(found[0]))
    return report
