"""Dialogues that say what another one says: found without comparing every pair, judged by comparing the pair.

MinHash (rensa) makes a sketch of each text: 128 numbers, in 32 bands of 4. Texts with a band in common are candidates;
the exact Jaccard similarity of their word trigrams decides. A pair at 0.7 shares no band once in 5,000 times, one at
0.8 once in 10 million, one at 0.5 once in 8: those are missed.
Trigrams are compared as 64-bit hashes, which do not meet by chance, and do not depend on the order of the texts.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain, islice

import numpy as np
from rensa import RMinHash

from ..text import words
from .dialogue import Dialogue, uncollected

_PERMUTATIONS, _BANDS = 128, 32
_BATCH = 2000  # texts whose hashes are in memory at once
_MIX = np.uint64(0x9E3779B97F4A7C15)


def sketch(dialogues: Iterable[Dialogue]) -> np.ndarray:
    """Make MinHash sketches, of shape (dialogues, 32): 64-bit numbers, one per band. Made once, they serve
    `near_duplicates` and `heldout_positions`.
    """
    return _bands(dialogues, all_words)


def near_duplicates(dialogues: Iterable[Dialogue], threshold: float = 0.7, sketches=None) -> dict:
    """Find dialogues that say what an earlier one says: `{index: (index of the earlier one, similarity)}`.

    A `stream` is read twice: memory grows by 256 bytes a dialogue and the candidates. A duplicate is compared with
    those before it that are none themselves, so that each cluster keeps its first.
    """
    candidates, found = Candidates(dialogues, all_words, sketches), {}
    for i in candidates.rows:
        share, first = candidates.nearest(i)
        if share >= threshold:
            found[i] = (first, share)
        else:
            candidates.insert(i)
    return found


class Groups(dict):
    """Indexes that belong together, directly or through others: {index: another of its group, or itself}."""

    def root(self, i: int) -> int:
        """Return the index that stands for the group of `i`."""
        while self.setdefault(i, i) != i:
            self[i] = i = self[self[i]]  # shorter for the next time
        return i

    def lists(self) -> list[list[int]]:
        """List the groups, each sorted."""
        found = defaultdict(list)
        for i in self:
            found[self.root(i)].append(i)
        return sorted(map(sorted, found.values()))

    def link(self, items, said: Callable, threshold: float, sketches=None) -> None:
        """Join near duplicates. Arguments as for `Candidates`; the order of the items changes nothing."""
        candidates = Candidates(items, said, sketches)
        for i in candidates.rows:
            twin = False
            for j in candidates.earlier(i):
                if self.root(j) != self.root(i) and (share := candidates.similarity(i, j)) >= threshold:
                    self[self.root(j)] = self.root(i)
                    twin = twin or share == 1
            if not twin:  # what is near an exact copy is near its twin, which is there already
                candidates.insert(i)


def all_words(dialogue: Dialogue) -> list[str]:
    """List the words of all messages of a dialogue; where there is none, of emoji say, their pieces."""
    said = [message["content"] for message in dialogue.messages]
    return [word for text in said for word in words(text)] or " ".join(said).split()


class Candidates:
    """Items that share a band of their sketches with another item, and how similar two of them are.

    items : anything one can loop over more than once, a list or a `stream`. said : function from an item to its words.
    sketches : as `sketch` makes them; made here where they are missing.
    rows  : indexes of the items that have a candidate at all, rising. The others are never looked at again.
    """

    @uncollected()
    def __init__(self, items, said, sketches=None):
        if iter(items) is items:
            items = list(items)
        bands = _bands(items, said) if sketches is None else sketches
        values, counts = np.unique(bands, return_counts=True)
        shared = np.isin(bands, values[counts > 1])
        self.rows = np.flatnonzero(shared.any(axis=1)).tolist()
        self._bands = {i: bands[i][shared[i]].tolist() for i in self.rows}
        self._table, self._trigrams = defaultdict(list), {}  # {index: sorted distinct trigram hashes} of the rows
        if self.rows:
            hashes = _WordHashes()
            together = ((i, item) for i, item in enumerate(items) if i in self._bands)
            self._trigrams = {i: np.unique(_hashed_trigrams([said(item)], hashes)[0]) for i, item in together}

    def insert(self, i):
        """Let `earlier` answer with item `i` from now on."""
        for band in self._bands[i]:
            self._table[band].append(i)

    def earlier(self, i):
        """Indexes of the inserted items that share a band with item `i`."""
        return {j for band in self._bands[i] for j in self._table[band]}

    def nearest(self, i):
        """(similarity, index) of the inserted item most like item `i`, the first of equals; (0.0, 0) for none."""
        share, place = max(((self.similarity(i, j), -j) for j in self.earlier(i)), default=(0.0, 0))
        return share, -place

    def similarity(self, i, j):
        """Jaccard similarity of two items of `rows`: `text.overlap`, on hashes."""
        a, b = self._trigrams[i], self._trigrams[j]
        both = len(np.intersect1d(a, b, assume_unique=True))
        return both / (len(a) + len(b) - both) if len(a) or len(b) else 1.0


class _WordHashes(dict):
    """{word: 64-bit hash}, filled as words come. Python's own hash differs from one run to the next."""

    def __missing__(self, word):
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
        return self.setdefault(word, int.from_bytes(digest, "little"))


def _bands(items, said):
    """Array of shape (items, 32): a 64-bit number for each band of each item's sketch, different for each band."""
    hashes, found = _WordHashes(), [np.empty((0, _BANDS), np.uint64)]
    items = iter(items)
    while batch := [said(item) for item in islice(items, _BATCH)]:
        runs, starts = _hashed_trigrams(batch, hashes)
        sketches = RMinHash.digest_matrix_from_flat_token_hashes(runs, starts, _PERMUTATIONS, 0).to_rows()
        parts = np.array(sketches, np.uint64).reshape(len(batch), _BANDS, -1)  # (batch, bands, 4)
        numbers = np.broadcast_to(np.arange(_BANDS, dtype=np.uint64), parts.shape[:2])
        for column in range(parts.shape[2]):
            numbers = (numbers + parts[:, :, column]) * _MIX
        found.append(numbers)
    return np.concatenate(found)


def _hashed_trigrams(said, hashes):
    """(trigram hashes of all texts in a row, where each text's begin and the last ends), as arrays.

    said : the words of each text. One or two words are one run, as in `text.trigrams`.
    """
    said = [found + [""] * (3 - len(found)) if 0 < len(found) < 3 else found for found in said]
    ends = np.cumsum([len(found) for found in said])
    one = np.fromiter(map(hashes.__getitem__, chain.from_iterable(said)), np.uint64, ends[-1])
    runs = (one[:-2] * _MIX + one[1:-1]) * _MIX + one[2:]
    whole = np.ones(len(one), bool)
    inner = ends[ends > 0]
    whole[inner - 1] = whole[inner - 2] = False  # runs that would reach into the next text
    counts = [max(0, len(found) - 2) for found in said]
    return runs[whole[: len(runs)]], np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
