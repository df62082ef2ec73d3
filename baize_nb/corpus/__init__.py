"""The corpus: dialogues on disk, cleaned, counted, split, and in the formats of others. Built in notebook 03.

Knows: `Dialogue` and everything that is done to many of them. Does not know: teachers, tokens, models.
"""

from .cleaning import RULES, Cleaned, Removed, clean, near_duplicates, write_removed
from .counting import PAPER, beside_paper, ends, message_words, paper, stats
from .formats import read_baize, read_messages, write_baize, write_sharegpt
from .splitting import seed_key, split
from .store import Dialogue, read, write
from .text import contained, overlap, repeated_share, trigrams, words

__all__ = [
    "PAPER",
    "RULES",
    "Cleaned",
    "Dialogue",
    "Removed",
    "beside_paper",
    "clean",
    "contained",
    "ends",
    "message_words",
    "near_duplicates",
    "overlap",
    "paper",
    "read",
    "read_baize",
    "read_messages",
    "repeated_share",
    "seed_key",
    "split",
    "stats",
    "trigrams",
    "words",
    "write",
    "write_baize",
    "write_removed",
    "write_sharegpt",
]
