"""Solutions to the exercises of notebook 01: one plain function per exercise."""

import random


def largest_even():
    """Exercise 1: three sources, and the smallest has 30 seeds."""
    return 90


def even_split(total, parts):
    """Exercise 2: everybody gets the whole part; the first ones get what is left over."""
    share, left = divmod(total, parts)
    return [share + 1] * left + [share] * (parts - left)


def stratified_sample(seeds, n, seed):
    """Exercise 3: serve the shortest source first, so that the others can still fill up what it lacks."""
    rng = random.Random(seed)
    groups = {}
    for item in sorted(seeds, key=lambda s: s.id):
        groups.setdefault(item.source, []).append(item)
    sampled = []
    waiting = sorted(groups.values(), key=len)
    for served, members in enumerate(waiting):
        share = (n - len(sampled)) // (len(waiting) - served)
        sampled += rng.sample(members, min(share, len(members)))
    return sampled
