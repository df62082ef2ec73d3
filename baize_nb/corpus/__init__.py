"""The corpus, what notebook 03 is about: dialogues on disk, cleaned, counted, split, and in the formats of others."""

# ruff: noqa: F401
from ..common import read_manifest
from ..text import contained, overlap, repeated_share, trigrams, words
from .cleaning import RULES, SUSPICIONS, Removed, clean, clusters, findings, near_duplicates, rule_name, sketch
from .cleaning import write_removed as write_removed
from .dialogues import Dialogue, load, read, write, write_parquet, write_sharegpt
from .dialogues import Stream as stream
from .splitting import heldout_positions, leakage, prompt_overlap, split
from .statistics import PAPER, Measures, beside_paper, by_turn, distinct, ends, heaps, message_words, rule_table, stats
from .statistics import measure as measure
