"""Solutions to the exercises of notebook 08: one plain function per exercise."""

import math


def batch_files(requests, line_bytes):
    """Exercise 1: whole lines per file under both limits, then files."""
    lines = min(50_000, 200_000_000 // line_bytes)
    return math.ceil(requests / lines)


def left(shards, files):
    """Exercise 2: a shard is done when its file stands there under its full name, and not before."""
    return [name for name in shards if f"{name}.parquet" not in files]


def merge(parts):
    """Exercise 3: sums add, the longest is the longest of the longest, sets unite; means are made at the end."""
    messages = sum(part["messages"] for part in parts)
    words = sum(part["messages"] * part["mean_words"] for part in parts)
    return {
        "messages": messages,
        "mean_words": words / messages if messages else 0.0,
        "longest": max((part["longest"] for part in parts), default=0),
        "words": set().union(*(part["words"] for part in parts)),
    }
