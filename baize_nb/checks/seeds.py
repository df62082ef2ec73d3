"""Checks of notebook 01: the largest even sample, the even split, the stratified sampler.

Knows: what a right answer does, on small pools of its own. Does not know: how the student wrote it.
"""

from collections import Counter

from .. import seeds
from . import attempt, report


def largest_even(answer, pool):
    """Exercise 1. answer() must be the largest n at which `seeds.sample(pool, n)` takes the same of every source."""
    n, problem = attempt(answer)
    if not problem and (isinstance(n, bool) or not isinstance(n, int)):
        problem = f"a whole number was expected, {n!r} came back."
    if not problem and not 0 < n <= len(pool):
        problem = f"{n} cannot be drawn from {len(pool)} seeds."
    if not problem:
        problem = _largest_even_problem(n, pool)
    hints = (
        "the counts stay equal until one source has nothing left to give.",
        "look up how many seeds the smallest source has, and how many sources there are.",
    )
    return report("largest_even", problem, hints)


def _largest_even_problem(n, pool):
    counts = Counter(s.source for s in seeds.sample(pool, n))
    sizes = Counter(s.source for s in pool)
    if len(counts) < len(sizes) or len(set(counts.values())) > 1:
        return f"with {n}, the sources give {sorted(counts.values())}: not the same."
    if n < min(sizes.values()) * len(sizes):
        return f"{n} is even, but it is not the largest number that is."
    return ""


def even_split(answer):
    """Exercise 2. answer(total, parts) must give `parts` whole numbers, none apart by more than 1, that add up."""
    problem = ""
    for total, parts in ((12, 4), (10, 4), (3, 5), (0, 3), (160, 7), (5, 1)):
        result, problem = attempt(answer, total, parts)
        problem = problem or _even_split_problem(result, total, parts)
        if problem:
            break
    hints = (
        "10 // 4 is 2 and 10 % 4 is 2: everybody gets 2, and 2 are left over.",
        "the first `total % parts` of them get one more.",
    )
    return report("even_split", problem, hints)


def _even_split_problem(result, total, parts):
    call = f"even_split({total}, {parts})"
    if not isinstance(result, (list, tuple)) or not all(isinstance(x, int) for x in result):
        return f"{call} should give a list of whole numbers, it gave {result!r}."
    if len(result) != parts:
        return f"{call} should give {parts} numbers, it gave {len(result)}."
    if sum(result) != total:
        return f"{call} adds up to {sum(result)}."
    if max(result) - min(result) > 1 or min(result) < 0:
        return f"{call} gave {list(result)}: two of them are further apart than 1, or below 0."
    return ""


def stratified(answer):
    """Exercise 3. answer(pool, n, seed) must sample evenly over sources, short ones included, deterministically."""
    problem = ""
    for sizes, n, expected in (
        ({"a": 20, "b": 20}, 10, [5, 5]),
        ({"a": 20, "b": 20, "c": 20}, 10, [3, 3, 4]),
        ({"a": 3, "b": 20, "c": 20}, 21, [3, 9, 9]),
        ({"a": 1, "b": 5, "c": 30}, 30, [1, 5, 24]),
        ({"a": 4, "b": 4}, 8, [4, 4]),
    ):
        pool = _pool(sizes)
        result, problem = attempt(answer, list(pool), n, 0)
        problem = problem or _stratified_problem(result, pool, n, expected)
        if not problem:
            found, problem = attempt(_chance_problem, answer, pool, n)
            problem = found or problem
        if problem:
            break
    hints = (
        "make one list per source, sort each by id and shuffle it with a random.Random(seed) of your own.",
        "serve the shortest list first: give it its even share of what is left, or all it has if that is less.",
        "after each source, the share is what is still missing divided by the sources still to be served.",
    )
    return report("stratified", problem, hints)


def _pool(sizes):
    return [seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test") for s, size in sizes.items() for i in range(size)]


def _stratified_problem(result, pool, n, expected):
    if not isinstance(result, (list, tuple)):
        return f"a list of seeds was expected, {type(result).__name__} came back."
    if len(result) != n:
        return f"{n} seeds were asked for, {len(result)} came back."
    if any(item not in pool for item in result) or len(set(result)) < n:
        return "something came back that is not in the pool, or the same seed twice."
    counts = sorted(Counter(s.source for s in result).values())
    if counts != expected:
        sizes = sorted(Counter(s.source for s in pool).values())
        return f"from sources of {sizes} seeds, {n} should be shared out as {expected}; yours were {counts}."
    return ""


def _chance_problem(answer, pool, n):
    once, again = answer(list(pool), n, 0), answer(list(pool), n, 0)
    if list(once) != list(again):
        return "the same seed number gave two different samples."
    if set(answer(pool[::-1], n, 0)) != set(once):
        return "the sample changed when the pool came in another order."
    # Where the pool is nearly used up two numbers may well choose the same: ask ten of them.
    if n < len(pool) and all(set(answer(list(pool), n, number)) == set(once) for number in range(1, 11)):
        return "every seed number gives the same sample: is the seed used?"
    return ""
