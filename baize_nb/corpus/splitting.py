"""Which dialogues are kept away from training, so that there is something to test on.

Knows: seeds, sources, near duplicates. Does not know: that two seeds in other words may ask the same.
"""

import hashlib
from collections import defaultdict

from ..common import CourseError
from .duplicates import all_words, linked
from .text import words

# Nearer than dialogues have to be: short questions from one mould ("What are the genetic changes related to …") share
# most of their trigrams and ask about different things.
NEAR_SEEDS = 0.8


def split(dialogues, heldout, seed=0, near=0.7):
    """(train, heldout): two lists sorted by id; no seed, no near duplicate on both sides. Built in notebook 03.

    heldout : how many dialogues to keep away, spread over the sources in proportion. Dialogues that belong together
              stay together, so there may be a few less.
    seed    : another number, another choice. The order of `dialogues` changes nothing.
    near    : dialogues of this trigram Jaccard similarity belong together, as do those of one seed (`seed_key`) and
              of seeds that are at least 0.8 similar; None: only those of one seed.

    Raises CourseError where there are too few dialogues to keep `heldout` away and still train on one.
    """
    dialogues = list(dialogues)
    taken = heldout_positions(dialogues, heldout, seed, near)
    train = [d for i, d in enumerate(dialogues) if i not in taken]
    return _sorted(train), _sorted([dialogues[i] for i in taken])


def heldout_positions(dialogues, heldout, seed=0, near=0.7, sketches=None):
    """Set of the indexes that `split` keeps away: for a `stream`, of which no list is made.

    sketches : what `sketch` made of the same dialogues, where it is there already.
    """
    keys, sources = [], []
    for dialogue in dialogues:
        keys.append(seed_key(dialogue))
        sources.append(dialogue.source)
    near_ones = [] if near is None else linked(dialogues, all_words, near, sketches) + _near_seeds(keys)
    groups = _groups(keys, near_ones)
    if not 1 <= heldout < len(keys) or len(groups) < 2:
        raise CourseError(
            f"Cannot keep {heldout} of {len(keys)} dialogues ({len(groups)} different seeds) away and still train "
            "on the rest. Ask for fewer, or collect more dialogues in notebook 02."
        )
    return {i for key in _take(groups, sources, heldout, seed) for i in groups[key]}


def seed_key(dialogue):
    """The seed's text without regard to case and spacing; the first question where a corpus names no seed."""
    return " ".join((dialogue.seed or dialogue.messages[0]["content"]).casefold().split())


def _near_seeds(keys):
    """Clusters of indexes whose seeds are not equal but nearly so."""
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    places = list(first.values())
    return [[places[i] for i in group] for group in linked(first, words, NEAR_SEEDS)]


def _groups(keys, near_ones):
    """`{seed key: {indexes}}`, one per seed; seeds that `near_ones` joins are one, under the first by alphabet."""
    groups = defaultdict(set)
    for i, key in enumerate(keys):
        groups[key].add(i)
    home = {key: key for key in groups}  # where the dialogues of a key are now
    for cluster in near_ones:
        together = {home[keys[i]] for i in cluster}
        first = min(together)
        for other in together - {first}:
            groups[first] |= groups.pop(other)
        for i in groups[first]:
            home[keys[i]] = first
    return dict(groups)


def _take(groups, sources, heldout, seed):
    """The group keys to keep away: each source gives its share, what rounding leaves is filled from any source."""
    # Ranking by a hash, not a shuffle: the choice hangs on the seeds themselves and on nothing else.
    ranked = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    home = {key: min(sources[i] for i in group) for key, group in groups.items()}
    room = _shares(groups, home, heldout, len(sources))
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


def _shares(groups, home, heldout, total):
    """`{source: dialogues to keep away}`, in proportion, summing to `heldout`: the largest remainders round up."""
    sizes = defaultdict(int)
    for key, group in groups.items():
        sizes[home[key]] += len(group)
    shares = {source: heldout * size // total for source, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda source: (-(heldout * sizes[source] % total), source))
    for source in by_remainder[: heldout - sum(shares.values())]:
        shares[source] += 1
    return shares


def _sorted(dialogues):
    """By id, and by content where ids are equal, so that the order they came in leaves no trace."""
    ids = [d.id for d in dialogues]
    unique = len(set(ids)) == len(ids)
    return sorted(dialogues, key=(lambda d: d.id) if unique else (lambda d: (d.id, d.to_json())))
