"""Checks of notebook 01: the largest even sample, the even split, the stratified sampler.

Knows: what a right answer does, on small pools of its own, and which mistake a wrong one points to. Does not know:
how the student wrote it. The first hint fits the mistake; the others say more about the way.
"""

from collections import Counter

from baize_nb import seeds

from . import attempt, report


def largest_even(answer, pool):
    """Exercise 1. answer() must be the largest n at which `seeds.sample(pool, n)` takes the same of every source."""
    n, problem = attempt(answer)
    hint = _SOME_NUMBER
    if not problem:
        problem, hint = _largest_even_problem(n, pool)
    hints = (
        hint,
        "look up how many seeds the smallest source has, and how many sources there are.",
        "min(sizes) * len(sizes): every source gives as many as the smallest has.",
    )
    return report("largest_even", problem, hints)


_SOME_NUMBER = "try numbers in `seeds.sample(uneven, n)`, and count the sources of what comes back."
_RUNS_DRY = "too many: the counts stay equal until one source has nothing left to give."
_A_MULTIPLE = "the number must be a multiple of the number of sources."
_GO_HIGHER = "each source gives as many as the others, and there is room above: the smallest has more to give."


def _largest_even_problem(n, pool):
    """(problem, hint) of the number `n`, ("", "") where it is right."""
    if isinstance(n, bool) or not isinstance(n, int):
        return f"a whole number was expected, {n!r} came back.", _SOME_NUMBER
    if not 0 < n <= len(pool):
        return f"{n} cannot be drawn from {len(pool)} seeds.", _SOME_NUMBER
    counts = Counter(s.source for s in seeds.sample(pool, n))
    sizes = Counter(s.source for s in pool)
    largest = min(sizes.values()) * len(sizes)
    if len(counts) < len(sizes) or len(set(counts.values())) > 1:
        problem = f"with {n}, the sources give {sorted(counts.values())}: not the same."
        return problem, _RUNS_DRY if n > largest else _A_MULTIPLE
    return (
        (f"With {n} each source gives the same, but {n} is not the largest number with which that is so.", _GO_HIGHER)
        if n < largest
        else ("", "")
    )


def even_split(answer):
    """Exercise 2. answer(total, parts) must give `parts` whole numbers, none apart by more than 1, that add up."""
    problem, hint = "", ""
    for total, parts in ((12, 4), (10, 4), (3, 5), (0, 3), (160, 7), (5, 1)):
        result, problem = attempt(answer, total, parts)
        hint = _A_LIST
        if not problem:
            problem, hint = _even_split_problem(result, total, parts)
        if problem:
            break
    hints = (
        hint,
        "share, left = divmod(total, parts): everybody gets `share`, and `left` of them get one more.",
        "[share + 1] * left + [share] * (parts - left)",
    )
    return report("even_split", problem, hints)


_A_LIST = "return a list with one number for each of the parts: [1] * 3 is [1, 1, 1]."
_LEFT_OVER = "10 // 4 is 2 and 10 % 4 is 2: everybody gets 2, and 2 are left over. Who gets those?"
_ONE_EACH = "give what is left over one by one to different people, not all of it to one."


def _even_split_problem(result, total, parts):
    """(problem, hint) of an answer of exercise 2, ("", "") where it is right."""
    call = f"even_split({total}, {parts})"
    if not isinstance(result, (list, tuple)) or not all(isinstance(x, int) for x in result):
        return f"{call} should give a list of whole numbers, it gave {result!r}.", _A_LIST
    if len(result) != parts:
        return f"{call} should give {parts} numbers, it gave {len(result)}.", _A_LIST
    if sum(result) != total:
        return f"{call} adds up to {sum(result)}.", _LEFT_OVER
    if max(result) - min(result) > 1 or min(result) < 0:
        return f"{call} gave {list(result)}: two of them are further apart than 1, or below 0.", _ONE_EACH
    return "", ""


_POOLS = (  # (seeds of each source, n, what each source should give)
    ({"a": 20, "b": 20}, 10, [5, 5]),
    ({"a": 20, "b": 20, "c": 20}, 10, [3, 3, 4]),
    ({"a": 3, "b": 20, "c": 20}, 21, [3, 9, 9]),
    ({"a": 1, "b": 5, "c": 30}, 30, [1, 5, 24]),
    ({"a": 4, "b": 4}, 8, [4, 4]),
)
_GROUPS = "make one list per source, and draw from each."
_FILL_UP = "exactly n: what a share leaves over, or a short source lacks, the other sources give."
_ONCE = "draw without putting back: rng.sample(members, k) gives k different ones."
_SHORT_FIRST = "serve the shortest source first; then the others can still fill up what it lacks."
_OWN_DICE = "make the dice from the seed, rng = random.Random(seed), and use no other ones."
_SORTED = "sort the seeds by id before you draw, so that the order they come in plays no part."


def stratified(answer):
    """Exercise 3. answer(pool, n, seed) must sample evenly over sources, short ones included, deterministically."""
    problem, hint = "", ""
    for sizes, n, expected in _POOLS:
        pool = _pool(sizes)
        result, problem = attempt(answer, list(pool), n, 0)
        hint = _GROUPS
        if not problem:
            problem, hint = _stratified_problem(result, pool, n, expected)
        if not problem:
            found, problem = attempt(_chance_problem, answer, pool, n)
            problem, hint = found or (problem, _OWN_DICE)
        if problem:
            break
    hints = (
        hint,
        "go through the sources, shortest list first: each gives its even share of what is left, or all it has.",
        "share = (n - len(sampled)) // (sources still to be served); rng.sample(members, min(share, len(members)))",
    )
    return report("stratified", problem, hints)


def _pool(sizes):
    return [seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test") for s, size in sizes.items() for i in range(size)]


def _stratified_problem(result, pool, n, expected):
    """(problem, hint) of one sample, ("", "") where its counts are right."""
    if not isinstance(result, (list, tuple)):
        return f"a list of seeds was expected, {type(result).__name__} came back.", _GROUPS
    if len(result) != n:
        return f"{n} seeds were asked for, {len(result)} came back.", _FILL_UP
    if any(item not in pool for item in result) or len(set(result)) < n:
        return "something came back that is not in the pool, or the same seed twice.", _ONCE
    counts = sorted(Counter(s.source for s in result).values())
    if counts != expected:
        sizes = sorted(Counter(s.source for s in pool).values())
        problem = f"from sources of {sizes} seeds, {n} should be shared out as {expected}; yours were {counts}."
        return problem, _SHORT_FIRST if min(sizes) < n // len(sizes) else _GROUPS
    return "", ""


def _chance_problem(answer, pool, n):
    """(problem, hint) of how chance is used, ("", "") where it is used well."""
    once, again = answer(list(pool), n, 0), answer(list(pool), n, 0)
    if list(once) != list(again):
        return "the same seed number gave two different samples.", _OWN_DICE
    if set(answer(pool[::-1], n, 0)) != set(once):
        return "the sample changed when the pool came in another order.", _SORTED
    # Where the pool is nearly used up two numbers may well choose the same: ask ten of them.
    if n < len(pool) and all(set(answer(list(pool), n, number)) == set(once) for number in range(1, 11)):
        return "every seed number gives the same sample: is the seed used?", _OWN_DICE
    return "", ""
