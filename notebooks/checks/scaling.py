"""Checks of notebook 08: count batch files, find the shards that are left, put counts of shards together."""

import copy

from . import Wrong, call, exercise, expect, table

LINES_ONLY = "with long lines a file is full before it has 50,000 of them: mind its 200,000,000 bytes."
BYTES_ONLY = "with short lines a file has room for more, but 50,000 lines are the limit."
ROUND_UP = "what does not fill a file needs a file all the same: round up."
WHOLE_LINES = "a line is not cut in two: first how many whole lines fit into a file, then how many files."


@exercise(
    "lines in a file = min(50_000, 200_000_000 // line_bytes).",
    "math.ceil(requests / lines in a file).",
)
def batch_files(answer):
    """Exercise 1. `answer(requests, line_bytes)` → files that the Batch API wants them in."""
    both = "two limits hold at once: 50,000 lines and 200,000,000 bytes. How many lines fit into one file under each?"
    rows = ((100_000, 400, 2, BYTES_ONLY), (115_000, 400, 3, ROUND_UP))
    rows += ((40_000, 10_000, 2, LINES_ONLY), (5, 70_000_000, 3, WHOLE_LINES))
    table(answer, [((requests, size), right, hint, (None, both)) for requests, size, right, hint in rows])


BY_NAME = "a shard is done if its file is among `files`: ask that of each shard, and keep those where it is not."
TORN = "a name with something before or behind it, .00001.parquet.x7k2, is a file that was being written: not done."
EXACT = "compare whole names: 00001 is not 000010."
ORDER = "give the names back as a list, in the order of the shards."
FINISHED = "the other way round: those that are not done."
LEFT = (  # (shards, files in dialogues/, right, hint)
    (["00000", "00001", "00002"], ["00001.parquet"], ["00000", "00002"], BY_NAME),
    (["00000", "00001"], ["00000.parquet", ".00001.parquet.x7k2"], ["00001"], TORN),
    (["00000", "00001"], ["00000.parquet", "00001.parquet.part"], ["00001"], TORN),
    (["00001", "00010", "00100"], ["000010.parquet", "00100.parquet"], ["00001", "00010"], EXACT),
    (["00000"], ["00000.parquet"], [], BY_NAME),
)


@exercise(
    "a crash may leave all sorts of files; only one name means that a shard is done.",
    '[name for name in shards if f"{name}.parquet" not in files]',
)
def left(answer):
    """Exercise 2. `answer(shards, files)` → names of the shards that are not done, in order."""
    rows = []
    for shards, files, right, hint in LEFT:
        done = [name for name in shards if name not in right]
        rows.append(((shards, files), right, hint, (set(right), ORDER), (right[::-1], ORDER), (done, FINISHED)))
    table(answer, rows)


FITTING = {
    "messages": "messages simply add up.",
    "mean_words": "the mean of means is right only where all shards are of one size: weigh each with its messages.",
    "longest": "the longest of all is the longest of the longest: max.",
    "words": "a word that stands in two shards is one word: unite the sets, don't add their sizes.",
}
EVEN = [
    {"messages": 2, "mean_words": 10.0, "longest": 12, "words": {"tea", "is"}},
    {"messages": 2, "mean_words": 20.0, "longest": 31, "words": {"is", "hot"}},
]
UNEVEN = [*EVEN, {"messages": 12, "mean_words": 5.0, "longest": 9, "words": {"tea"}}]
EMPTY = [{"messages": 0, "mean_words": 0.0, "longest": 0, "words": set()}]
MERGES = (  # (shards' counts, right)
    (EVEN, {"messages": 4, "mean_words": 15.0, "longest": 31, "words": {"tea", "is", "hot"}}),
    (UNEVEN, {"messages": 16, "mean_words": 7.5, "longest": 31, "words": {"tea", "is", "hot"}}),
    (EMPTY, EMPTY[0]),
)


@exercise(
    "total words of a shard = its messages × its mean; add these up, and divide by all messages at the end.",
    "words = set().union(*(p['words'] for p in parts)); mean = total / messages if messages else 0.0",
)
def merge(answer):
    """Exercise 3. `answer(parts)` → the counts of all shards together, from those of each."""
    for parts, right in MERGES:
        given = copy.deepcopy(parts)
        zero = "no messages at all: the mean is 0.0, not a division by zero."
        got = call(lambda given=given: answer(given), hint=zero)
        if given != parts:
            hint = "leave the shards' own counts as they are: build a new set, a | b, in place of a.update(b)."
            raise Wrong("your function changed the counts that it was given.", hint)
        if not isinstance(got, dict) or set(got) != set(right):
            raise Wrong(f"a dict with {', '.join(right)} was expected, you returned {got!r}.", "return the same keys.")
        for key, value in right.items():
            expect(got[key], value, key, FITTING[key])
