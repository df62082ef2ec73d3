"""Which dialogues are kept away from training, so that there is something to test on.

Knows: seeds and sources. Does not know: that two seeds worded differently may ask the same.
"""

import hashlib
from collections import defaultdict

from ..errors import CourseError


def split(dialogues, heldout, seed=0):
    """(train, heldout): two lists sorted by id, no seed text on both sides. Built in notebook 03.

    heldout : how many dialogues to keep away, spread over the sources in proportion. Where a seed has several
              dialogues they stay together, so there may be a few less.
    seed    : another number, another choice. The order of `dialogues` changes nothing.

    Raises CourseError where there are too few dialogues to keep `heldout` away and still train on one.
    """
    groups = by_seed(dialogues)
    if not 1 <= heldout < len(dialogues) or len(groups) < 2:
        raise CourseError(
            f"Cannot keep {heldout} of {len(dialogues)} dialogues ({len(groups)} different seeds) away and still train "
            "on the rest. Ask for fewer, or collect more dialogues in notebook 02."
        )
    taken = _take(groups, heldout, len(dialogues), seed)
    train = [d for key, group in groups.items() if key not in taken for d in group]
    return _sorted(train), _sorted(d for key in taken for d in groups[key])


def seed_key(dialogue):
    """The seed's text without regard to case and spacing; the first question where a corpus names no seed."""
    return " ".join((dialogue.seed or dialogue.messages[0]["content"]).casefold().split())


def by_seed(dialogues):
    """`{seed_key: [dialogues]}`."""
    groups = defaultdict(list)
    for dialogue in dialogues:
        groups[seed_key(dialogue)].append(dialogue)
    return dict(groups)


def _take(groups, heldout, total, seed):
    """The seed keys to keep away: each source gives its share, what rounding leaves is filled from any source."""
    # Ranking by a hash, not a shuffle: the choice hangs on the seeds themselves and on nothing else.
    ranked = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    room = _shares(groups, heldout, total)
    taken, left = set(), heldout
    for anywhere in (False, True):
        for key in ranked:
            size, source = len(groups[key]), _source(groups[key])
            fits = size <= left and (anywhere or size <= room[source]) and len(taken) < len(groups) - 1
            if key not in taken and fits:
                taken.add(key)
                room[source] -= size
                left -= size
    if not taken:
        raise CourseError(f"Every seed has more than {heldout} dialogues, and they must stay together. Ask for more.")
    return taken


def _shares(groups, heldout, total):
    """`{source: dialogues to keep away}`, in proportion, summing to `heldout`: the largest remainders round up."""
    sizes = defaultdict(int)
    for group in groups.values():
        sizes[_source(group)] += len(group)
    shares = {source: heldout * size // total for source, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda source: (-(heldout * sizes[source] % total), source))
    for source in by_remainder[: heldout - sum(shares.values())]:
        shares[source] += 1
    return shares


def _source(group):
    """The source that a group of dialogues counts for."""
    return min(d.source for d in group)


def _sorted(dialogues):
    return sorted(dialogues, key=lambda d: (d.id, d.to_json()))
