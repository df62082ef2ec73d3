"""Checks of notebook 01: the largest even sample, the even split, the stratified sampler."""

import sys
from collections import Counter
from contextlib import contextmanager
from numbers import Integral

from baize_nb import seeds

from . import Wrong, call, exercise, refuse

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
    if isinstance(n, bool) or not isinstance(n, Integral) or not 0 < n <= len(pool):
        raise Wrong(f"a whole number up to {len(pool)} was expected, {n!r} came back.", SOME_NUMBER)
    counts, sizes = (Counter(s.source for s in found) for found in (seeds.sample(pool, int(n)), pool))
    largest = min(sizes.values()) * len(sizes)
    refuse(
        f"with {n}, the sources give {sorted(counts.values())}.",
        (n > largest, RUNS_DRY),
        (n % len(sizes), A_MULTIPLE),
        (n < largest, GO_HIGHER),
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
        refuse(
            f"{said} gave {list(result)}.",
            (len(result) != parts, A_LIST),
            (sum(result) != total, LEFT_OVER),
            (max(result, default=0) - min(result, default=0) > 1 or min(result, default=0) < 0, ONE_EACH),
        )


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
    for sizes, n, expected in POOLS:
        pool = [seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test") for s, size in sizes.items() for i in range(size)]

        def again(items, number, n=n):
            return call(lambda *given: tuple(answer(*given)), items, n, number, hint=OWN_RNG)

        with _calls_of(seeds.sample) as calls:
            once = call(answer, pool, n, 0, hint=GROUPS)
        if calls:
            raise Wrong("that is seeds.sample itself.", BY_YOURSELF)
        if not isinstance(once, list | tuple):
            raise Wrong(f"a list of seeds was expected, {type(once).__name__} came back.", GROUPS)
        counts = sorted(Counter(s.source for s in once if s in pool).values())
        refuse(
            f"{n} from sources of {[*sizes.values()]} seeds should be shared out as {expected}; yours were {counts}.",
            (len(once) != n, FILL_UP),
            (sum(seed in once for seed in pool) < n, ONCE),
            (counts != expected, SHORT_FIRST if min(sizes.values()) < n // len(sizes) else GROUPS),
        )
        drawn = {frozenset(again(pool, number)) for number in range(60)}
        # Five of twenty can be chosen in 15,504 ways; a list that is only turned round has 20.
        of_a = {frozenset(s.id for s in found if s.source == "a") for found in drawn}
        refuse(
            f"of {len(pool)} seeds, 60 seed numbers drew {len(drawn)} different samples.",
            (tuple(once) != again(pool, 0), OWN_RNG),
            (set(again(pool[::-1], 0)) != set(once), SORTED),
            (len(drawn) == 1 and n < len(pool), OWN_RNG),
            (len(pool) == 40 and len(of_a) <= 20, ANY_OF_THEM),
        )


@contextmanager
def _calls_of(function):
    """Yield a list that gets an entry with each call of `function`, by whatever name it is known there."""
    calls, before = [], sys.getprofile()
    sys.setprofile(lambda frame, event, _: calls.append(event) if frame.f_code is function.__code__ else None)
    try:
        yield calls
    finally:
        sys.setprofile(before)
