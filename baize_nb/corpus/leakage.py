"""Whether a test was seen in training: seeds, near duplicates, and runs of words from evaluation prompts.

Knows: two corpora, a list of prompts. Does not know: paraphrases. What is said in other words is not found.
"""

from dataclasses import dataclass, field

from .duplicates import Candidates, all_words
from .splitting import NEAR_SEEDS, seed_key
from .text import words


@dataclass
class Leakage:
    """What training and held-out dialogues have in common. True in a condition where there is something.

    seeds      : [(train id, held-out id)] with the same seed.
    near_seeds : [(train id, held-out id, similarity)] with nearly the same seed.
    near       : [(train id, held-out id, similarity)] with nearly the same text.
    Each held-out dialogue stands at most once in each list, with the training dialogue that is nearest.
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
            lines += [f"    {heldout} ← {train}{_percent(share)}" for train, heldout, *share in pairs[:3]]
        return "\n".join(lines)


def leakage(train, heldout, near=0.7):
    """`Leakage` between two lists of dialogues. Built in notebook 03.

    near : trigram Jaccard similarity from which on dialogues count as the same; seeds from 0.8 on, see `split`.
    """
    train, heldout = list(train), list(heldout)
    by_key = {seed_key(d): d.id for d in reversed(train)}
    seeds = [(by_key[seed_key(d)], d.id) for d in heldout if seed_key(d) in by_key]
    same = {name for _, name in seeds}
    near_seeds = _nearest(train, heldout, NEAR_SEEDS, _seed_words)
    near_seeds = [found for found in near_seeds if found[1] not in same]
    return Leakage(len(train), len(heldout), seeds, near_seeds, _nearest(train, heldout, near, all_words))


def _seed_words(dialogue):
    return words(seed_key(dialogue))


def _nearest(train, heldout, threshold, said):
    """[(train id, held-out id, similarity)] of the held-out dialogues that have one so near, with the nearest."""
    candidates = Candidates([*train, *heldout], said)
    found = []
    for i in candidates.rows:  # rising, so that all of training is in before the first held-out one asks
        if i < len(train):
            candidates.insert(i)
            continue
        share, j = max(((candidates.similarity(i, j), -j) for j in candidates.earlier(i)), default=(0.0, 0))
        if share >= threshold:
            found.append((train[-j].id, heldout[i - len(train)].id, share))
    return found


@dataclass
class PromptOverlap:
    """Runs of `n` words that a corpus has in common with evaluation prompts. True in a condition where there are any.

    prompts   : how many were looked for. dialogues : how many have a run of some prompt in them.
    shared    : {index of a prompt: share of its runs that stand in the corpus, 0 … 1}, only where above 0.
    examples  : {index of a prompt: (id of a dialogue, the run)}, the first found.
    too_short : indexes of prompts of fewer than `n` words: they were compared with whole messages only.
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
        worst = sorted(self.shared, key=lambda i: (-self.shared[i], i))[:5]
        for i in worst:
            name, run = self.examples[i]
            lines.append(f"  prompt {i}: {self.shared[i]:.0%} of its runs, for example in {name}: “{run}”")
        if self.too_short:
            lines.append(f"  {len(self.too_short):,} prompts are shorter than that: compared with whole messages only")
        return "\n".join(lines)


def prompt_overlap(dialogues, prompts, n=8):
    """`PromptOverlap` of a corpus with a list of evaluation prompts (str). Built in notebook 03.

    dialogues : any iterable; it is read once. n : words in a run. Eight in a row are rarely chance, but quotations and
    phrases ("the quick brown fox …") do occur: read the examples.
    """
    report = PromptOverlap(n, len(prompts))
    wanted = _runs_of_prompts(prompts, n, report)
    seen = dict.fromkeys(wanted)
    for dialogue in dialogues:
        hits = {run for message in dialogue.messages for run in _runs(words(message["content"]), n) if run in wanted}
        report.dialogues += bool(hits)
        for run in hits:
            seen[run] = seen[run] or dialogue.id
    for i, prompt in enumerate(prompts):
        runs = set(_runs(words(prompt), n))
        found = sorted(run for run in runs if seen[run])
        if found:
            report.shared[i] = len(found) / len(runs)
            report.examples[i] = (seen[found[0]], " ".join(found[0]))
    return report


def _runs_of_prompts(prompts, n, report):
    """The set of all prompts' runs; prompts that are too short are noted in the report."""
    wanted = set()
    for i, prompt in enumerate(prompts):
        said = words(prompt)
        wanted.update(_runs(said, n))
        if len(said) < n:
            report.too_short.append(i)
    return wanted


def _runs(said, n):
    """All runs of `n` words, as tuples; fewer words are one run."""
    return list(zip(*(said[i:] for i in range(n)), strict=False)) or [tuple(said)] * bool(said)


def _percent(share):
    return f" ({share[0]:.0%} in common)" if share else ""
