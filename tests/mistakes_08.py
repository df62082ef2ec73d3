"""Exercises of notebook 08: their checks, and mistakes with the hint that fits. Used by test_exercises.py."""

import math

from exercises import solutions_of

from checks import scaling

EXERCISES = {"batch_files": scaling.batch_files, "left": scaling.left, "merge": scaling.merge}
SOLUTIONS = solutions_of("08_scaling_out")


def lines_only(requests, line_bytes):
    """Knows one limit."""
    return math.ceil(requests / 50_000)


def bytes_only(requests, line_bytes):
    """Knows the other."""
    return math.ceil(requests / (200_000_000 // line_bytes))


def rounded_down(requests, line_bytes):
    """Forgets the file that is not full."""
    return requests // min(50_000, 200_000_000 // line_bytes)


def cut_lines(requests, line_bytes):
    """Divides all bytes by a file's bytes, as if a line could be cut."""
    return max(math.ceil(requests / 50_000), math.ceil(requests * line_bytes / 200_000_000))


def anything_counts(shards, files):
    """Takes a file that was being written for a whole one."""
    return [name for name in shards if not any(f"{name}.parquet" in file for file in files)]


def loosely(shards, files):
    """Takes a beginning for a name; knows that a file that begins with a dot is not whole."""
    whole = [file for file in files if not file.startswith(".")]
    return [name for name in shards if not any(name in file for file in whole)]


def in_any_order(shards, files):
    return set(SOLUTIONS["left"](shards, files))


def finished(shards, files):
    return [name for name in shards if f"{name}.parquet" in files]


def mean_of_means(parts):
    return SOLUTIONS["merge"](parts) | {"mean_words": sum(p["mean_words"] for p in parts) / len(parts)}


def words_added(parts):
    return SOLUTIONS["merge"](parts) | {"words": sum(len(p["words"]) for p in parts)}


def longest_added(parts):
    return SOLUTIONS["merge"](parts) | {"longest": sum(p["longest"] for p in parts)}


def never_empty(parts):
    sum(p["messages"] * p["mean_words"] for p in parts) / sum(p["messages"] for p in parts)
    return SOLUTIONS["merge"](parts)


def changes_its_input(parts):
    answer = SOLUTIONS["merge"](parts)
    parts[0]["words"].update(answer["words"])
    return answer


MISTAKES = [
    ("batch_files", lines_only, scaling._LINES_ONLY),
    ("batch_files", bytes_only, scaling._BYTES_ONLY),
    ("batch_files", rounded_down, scaling._ROUND_UP),
    ("batch_files", cut_lines, scaling._WHOLE_LINES),
    ("left", anything_counts, scaling._TORN),
    ("left", loosely, scaling._EXACT),
    ("left", in_any_order, scaling._ORDER),
    ("left", finished, scaling._FINISHED),
    ("merge", mean_of_means, scaling._MEAN),
    ("merge", words_added, scaling._WORDS),
    ("merge", longest_added, scaling._LONGEST),
    ("merge", never_empty, scaling._NOTHING),
    ("merge", changes_its_input, scaling._KEEP),
]
