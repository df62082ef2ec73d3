"""The corpus, what notebook 03 is about: dialogues on disk, cleaned, counted, split, and in the formats of others."""

# ruff: noqa: F401
from ..common import read_manifest
from ..text import contained, overlap, repeated_share, trigrams, words
from .cleaning import RULES, SUSPICIONS, Removed, clean, clusters, findings, rule_name, write_removed
from .counting import (
    PAPER,
    Measures,
    beside_paper,
    by_turn,
    distinct,
    ends,
    heaps,
    length_candidates,
    measure,
    message_words,
    rule_table,
    stats,
)
from .dialogue import Dialogue, read, write
from .duplicates import near_duplicates, sketch
from .formats import write_parquet, write_sharegpt
from .loading import Stream as stream
from .loading import load
from .splitting import heldout_positions, leakage, prompt_overlap, seed_key, split
