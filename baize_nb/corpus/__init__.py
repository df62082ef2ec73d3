"""The corpus: dialogues on disk, cleaned, counted, split, and in the formats of others. Built in notebook 03.

Knows: `Dialogue` and everything that is done to many of them. Does not know: teachers, tokens, models.
"""

from .card import card, read_manifest
from .cleaning import (
    RULES,
    SUSPICIONS,
    Cleaned,
    Cluster,
    Removed,
    clean,
    clusters,
    findings,
    rule_name,
    rule_table,
    write_removed,
)
from .counting import (
    PAPER,
    beside_paper,
    by_turn,
    distinct,
    ends,
    heaps,
    length_candidates,
    lengths,
    message_words,
    paper,
    stats,
)
from .duplicates import near_duplicates, sketch
from .formats import write_alpaca, write_baize, write_messages, write_parquet, write_sharegpt
from .leakage import Leakage, PromptOverlap, leakage, prompt_overlap
from .loading import Loaded, Stream, Unreadable, load, read_baize, read_messages, stream
from .measuring import Measures, measure
from .splitting import heldout_positions, seed_key, split
from .store import Dialogue, read, write
from .text import contained, overlap, repeated_share, trigrams, words

__all__ = [
    "PAPER",
    "RULES",
    "SUSPICIONS",
    "Cleaned",
    "Cluster",
    "Dialogue",
    "Leakage",
    "Loaded",
    "Measures",
    "PromptOverlap",
    "Removed",
    "Stream",
    "Unreadable",
    "beside_paper",
    "by_turn",
    "card",
    "clean",
    "clusters",
    "contained",
    "distinct",
    "ends",
    "findings",
    "heaps",
    "heldout_positions",
    "leakage",
    "length_candidates",
    "lengths",
    "load",
    "measure",
    "message_words",
    "near_duplicates",
    "overlap",
    "paper",
    "prompt_overlap",
    "read",
    "read_baize",
    "read_manifest",
    "read_messages",
    "repeated_share",
    "rule_name",
    "rule_table",
    "seed_key",
    "sketch",
    "split",
    "stats",
    "stream",
    "trigrams",
    "words",
    "write",
    "write_alpaca",
    "write_baize",
    "write_messages",
    "write_parquet",
    "write_removed",
    "write_sharegpt",
]
