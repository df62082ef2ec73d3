"""Checks of notebook 08: count batch files, find the shards that are left, put counts of shards together.

Knows: what a right answer does, and which mistake a wrong one points to. Does not know: how the student wrote it.
The first hint fits the mistake; the others say more about the way.
"""

import copy

from . import attempt, report

_BOTH = "two limits hold at once: 50,000 lines and 200,000,000 bytes. How many lines fit into one file under each?"
_LINES_ONLY = "with long lines a file is full before it has 50,000 of them: mind its 200,000,000 bytes."
_BYTES_ONLY = "with short lines a file has room for more, but 50,000 lines are the limit."
_ROUND_UP = "what does not fill a file needs a file all the same: round up."
_WHOLE_LINES = "a line is not cut in two: first how many whole lines fit into a file, then how many files."
_FILES = (  # (requests, bytes of a line, right, hint)
    (100_000, 400, 2, _BYTES_ONLY),
    (115_000, 400, 3, _ROUND_UP),
    (40_000, 10_000, 2, _LINES_ONLY),
    (5, 70_000_000, 3, _WHOLE_LINES),
)


def batch_files(answer):
    """Exercise 1. `answer(requests, line_bytes)` → files that the Batch API wants them in."""
    problem, hint = "", ""
    for requests, size, right, fitting in _FILES:
        got, problem = attempt(answer, requests, size)
        if not problem and got != right:
            problem = f"{requests:,} lines of {size:,} bytes: you say {got!r} files, {right} are needed."
        if problem:
            hint = _BOTH if got is None else fitting
            break
    hints = (
        hint,
        "lines in a file = min(50_000, 200_000_000 // line_bytes).",
        "math.ceil(requests / lines in a file).",
    )
    return report("batch_files", problem, hints)


_BY_NAME = "a shard is done if its file is among `files`: ask that of each shard, and keep those where it is not."
_TORN = "a name with something behind it, .00001.parquet.x7k2, is a file that was being written: not done."
_EXACT = "compare whole names: 00001 is not 000010."
_ORDER = "give the names back as a list, in the order of the shards."
_FINISHED = "the other way round: those that are not done."
_LEFT = (  # (shards, files in dialogues/, right, hint)
    (["00000", "00001", "00002"], ["00001.parquet"], ["00000", "00002"], _BY_NAME),
    (["00000", "00001"], ["00000.parquet", ".00001.parquet.x7k2"], ["00001"], _TORN),
    (["00001", "00010", "00100"], ["000010.parquet", "00100.parquet"], ["00001", "00010"], _EXACT),
    (["00000"], ["00000.parquet"], [], _BY_NAME),
)


def left(answer):
    """Exercise 2. `answer(shards, files)` → names of the shards that are not done, in order."""
    problem, hint = "", ""
    for shards, files, right, fitting in _LEFT:
        got, problem = attempt(answer, list(shards), list(files))
        if not problem and got != right:
            problem = f"of {shards}, with {files} on the disk, you return {got!r}, not {right!r}."
        if problem:
            hint = _left_hint(got, shards, right, fitting)
            break
    hints = (
        hint,
        "a crash may leave all sorts of files; only one name means that a shard is done.",
        '[name for name in shards if f"{name}.parquet" not in files]',
    )
    return report("left", problem, hints)


def _left_hint(got, shards, right, fitting):
    if isinstance(got, list | set | tuple) and got != right and set(got) == set(right):
        return _ORDER
    if isinstance(got, list) and right and got == [name for name in shards if name not in right]:
        return _FINISHED
    return fitting


_MEAN = "the mean of means is right only where all shards are of one size: weigh each with its messages."
_LONGEST = "the longest of all is the longest of the longest: max."
_WORDS = "a word that stands in two shards is one word: unite the sets, don't add their sizes."
_MESSAGES = "messages simply add up."
_KEEP = "leave the shards' own counts as they are: build a new set, a | b, in place of a.update(b)."
_FOUR = 'return a dict with the same four keys: "messages", "mean_words", "longest", "words".'
_NOTHING = "no messages at all: the mean is 0.0, not a division by zero."
_EVEN = [
    {"messages": 2, "mean_words": 10.0, "longest": 12, "words": {"tea", "is"}},
    {"messages": 2, "mean_words": 20.0, "longest": 31, "words": {"is", "hot"}},
]
_UNEVEN = [*_EVEN, {"messages": 12, "mean_words": 5.0, "longest": 9, "words": {"tea"}}]
_EMPTY = [{"messages": 0, "mean_words": 0.0, "longest": 0, "words": set()}]
_MERGES = (  # (shards' counts, right)
    (_EVEN, {"messages": 4, "mean_words": 15.0, "longest": 31, "words": {"tea", "is", "hot"}}),
    (_UNEVEN, {"messages": 16, "mean_words": 7.5, "longest": 31, "words": {"tea", "is", "hot"}}),
    (_EMPTY, {"messages": 0, "mean_words": 0.0, "longest": 0, "words": set()}),
)
_FITTING = {"messages": _MESSAGES, "mean_words": _MEAN, "longest": _LONGEST, "words": _WORDS}


def merge(answer):
    """Exercise 3. `answer(parts)` → the counts of all shards together, from those of each."""
    problem, hint = "", ""
    for parts, right in _MERGES:
        given = copy.deepcopy(parts)
        got, problem = attempt(answer, given)
        if problem:
            hint = _NOTHING if "ZeroDivisionError" in problem and parts is _EMPTY else _FOUR
        elif given != parts:
            problem, hint = "your function changed the counts that it was given.", _KEEP
        else:
            problem, hint = _merge_problem(got, right)
        if problem:
            break
    hints = (
        hint,
        "total words of a shard = its messages × its mean; add these up, and divide by all messages at the end.",
        "words = set().union(*(p['words'] for p in parts)); mean = total / messages if messages else 0.0",
    )
    return report("merge", problem, hints)


def _merge_problem(got, right):
    """(problem, hint) of an answer of exercise 3, ("", "") where it is right."""
    if not isinstance(got, dict) or set(got) != set(right):
        return f"a dict with {', '.join(right)} was expected, you returned {got!r}.", _FOUR
    for key, value in right.items():
        if got[key] != value:
            return f"{key}: you have {got[key]!r}, and {value!r} would be right.", _FITTING[key]
    return "", ""
