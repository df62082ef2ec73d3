"""Checks of notebook 01: the largest even sample, the even split, the stratified sampler."""

import sys
from collections import Counter
from contextlib import contextmanager
from numbers import Integral

from baize_nb import seeds

from . import Wrong, call, exercise

SOME_NUMBER = "try numbers in `seeds.sample(uneven, n)`, and count the sources of what comes back."
RUNS_DRY = "too many: the counts stay equal until one source has nothing left to give."
A_MULTIPLE = "the number must be a multiple of the number of sources."
GO_HIGHER = "each source gives as many as the others, and there is room above: the smallest has more to give."


@exercise(
    "look up how many seeds the smallest source has, and how many sources there are.",
    "min(sizes) * len(sizes): every source gives as many as the smallest has.",
)
def largest_even(answer, pool):
    """Exercise 1. answer() must be the largest n at which `seeds.sample(pool, n)` takes the same of every source."""
    n = call(answer, hint=SOME_NUMBER)
    if isinstance(n, bool) or not isinstance(n, Integral):
        raise Wrong(f"a whole number was expected, {n!r} came back.", SOME_NUMBER)
    if not 0 < n <= len(pool):
        raise Wrong(f"{n} cannot be drawn from {len(pool)} seeds.", SOME_NUMBER)
    counts, sizes = (Counter(s.source for s in found) for found in (seeds.sample(pool, int(n)), pool))
    largest = min(sizes.values()) * len(sizes)
    if len(counts) < len(sizes) or len(set(counts.values())) > 1:
        problem = f"with {n}, the sources give {sorted(counts.values())}: not the same."
        raise Wrong(problem, RUNS_DRY if n > largest else A_MULTIPLE)
    if n < largest:
        raise Wrong(
            f"With {n} each source gives the same, but {n} is not the largest number with which that is so.", GO_HIGHER
        )


A_LIST = "return a list with one number for each of the parts: [1] * 3 is [1, 1, 1]."
LEFT_OVER = "10 // 4 is 2 and 10 % 4 is 2: everybody gets 2, and 2 are left over. Who gets those?"
ONE_EACH = "give what is left over one by one to different people, not all of it to one."


@exercise(
    "share, left = divmod(total, parts): everybody gets `share`, and `left` of them get one more.",
    "[share + 1] * left + [share] * (parts - left)",
)
def even_split(answer):
    """Exercise 2. answer(total, parts) must give `parts` whole numbers, none apart by more than 1, that add up."""
    for total, parts in ((12, 4), (10, 4), (3, 5), (0, 3), (160, 7), (5, 1)):
        said = f"even_split({total}, {parts})"
        result = call(answer, total, parts, hint=A_LIST)
        result = result.tolist() if hasattr(result, "tolist") else result  # NumPy's arrays are as good
        if not isinstance(result, list | tuple) or not all(isinstance(x, Integral) for x in result):
            raise Wrong(f"{said} should give a list of whole numbers, it gave {result!r}.", A_LIST)
        if len(result) != parts:
            raise Wrong(f"{said} should give {parts} numbers, it gave {len(result)}.", A_LIST)
        if sum(result) != total:
            raise Wrong(f"{said} adds up to {sum(result)}.", LEFT_OVER)
        if max(result) - min(result) > 1 or min(result) < 0:
            raise Wrong(f"{said} gave {list(result)}: two of them are further apart than 1, or below 0.", ONE_EACH)


GROUPS = "make one list per source, and draw from each."
FILL_UP = "exactly n: what a share leaves over, or a short source lacks, the other sources give."
ONCE = "draw without putting back: rng.sample(members, k) gives k different ones."
SHORT_FIRST = "serve the shortest source first; then the others can still fill up what it lacks."
OWN_RNG = "make the random numbers from the seed, rng = random.Random(seed), and use no other ones."
SORTED = "sort the seeds by id before you draw, so that the order they come in plays no part."
BY_YOURSELF = "seeds.sample is what you are asked to rebuild: deal cards, or share out with your even_split."
ANY_OF_THEM = "any seeds of a source may come together: draw with rng.sample, or shuffle before you cut."
POOLS = (  # (seeds of each source, n, what each source should give)
    ({"a": 20, "b": 20}, 10, [5, 5]),
    ({"a": 20, "b": 20, "c": 20}, 10, [3, 3, 4]),
    ({"a": 3, "b": 20, "c": 20}, 21, [3, 9, 9]),
    ({"a": 1, "b": 5, "c": 30}, 30, [1, 5, 24]),
    ({"a": 4, "b": 4}, 8, [4, 4]),
)


@exercise(
    "go through the sources, shortest list first: each gives its even share of what is left, or all it has.",
    "share = (n - len(sampled)) // (sources still to be served); rng.sample(members, min(share, len(members)))",
)
def stratified(answer):
    """Exercise 3. answer(pool, n, seed) must sample evenly over sources, short ones included, deterministically."""
    with _calls_of(seeds.sample) as calls:
        try:
            for sizes, n, expected in POOLS:
                pool = [seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test") for s, size in sizes.items() for i in range(size)]
                result = call(answer, list(pool), n, 0, hint=GROUPS)
                _stratified_counts(result, pool, n, expected)
                _stratified_chance(answer, pool, n, result)
        finally:
            if calls:
                raise Wrong("that is seeds.sample itself.", BY_YOURSELF)


@contextmanager
def _calls_of(function):
    """Yield a list that gets an entry with each call of `function`, by whatever name it is known there."""
    calls, before = [], sys.getprofile()
    sys.setprofile(lambda frame, event, _: calls.append(event) if frame.f_code is function.__code__ else None)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def _stratified_counts(result, pool, n, expected):
    """Raise Wrong unless a sample has the right seeds of each source."""
    if not isinstance(result, list | tuple):
        raise Wrong(f"a list of seeds was expected, {type(result).__name__} came back.", GROUPS)
    if len(result) != n:
        raise Wrong(f"{n} seeds were asked for, {len(result)} came back.", FILL_UP)
    if any(item not in pool for item in result) or len(set(result)) < n:
        raise Wrong("something came back that is not in the pool, or the same seed twice.", ONCE)
    counts = sorted(Counter(s.source for s in result).values())
    if counts != expected:
        sizes = sorted(Counter(s.source for s in pool).values())
        problem = f"from sources of {sizes} seeds, {n} should be shared out as {expected}; yours were {counts}."
        raise Wrong(problem, SHORT_FIRST if min(sizes) < n // len(sizes) else GROUPS)


def _stratified_chance(answer, pool, n, once):
    """Raise Wrong unless chance decides, and comes from the seed number alone."""

    def again(items, seed):
        return call(answer, items, n, seed, hint=OWN_RNG)

    if list(once) != list(again(list(pool), 0)):
        raise Wrong("the same seed number gave two different samples.", OWN_RNG)
    if set(again(pool[::-1], 0)) != set(once):
        raise Wrong("the sample changed when the pool came in another order.", SORTED)
    if n == len(pool):
        return
    # Where the pool is nearly used up two numbers may well choose the same: ask ten of them.
    if all(set(again(list(pool), number)) == set(once) for number in range(1, 11)):
        raise Wrong("every seed number gives the same sample: is the seed used?", OWN_RNG)
    if len(pool) == 40:  # five of twenty can be chosen in 15,504 ways; a list that is only turned round has 20
        drawn = {frozenset(s.id for s in again(list(pool), number) if s.source == "a") for number in range(60)}
        if len(drawn) <= 20:
            raise Wrong(f"60 seed numbers chose only {len(drawn)} different fives of a source's twenty.", ANY_OF_THEM)
