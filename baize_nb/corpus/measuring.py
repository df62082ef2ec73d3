"""One pass over a corpus that counts all that counting.py makes tables of; memory grows with the vocabulary only.

Knows: dialogues, words, tokens. Does not know: tables, the paper, which dialogues are good.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from .memory import uncollected
from .text import words
from .tokencount import token_counter

_BATCH = 500  # dialogues whose messages go to the tokenizer together
_GROWTH = 1.25  # each point of the vocabulary's growth has so many times the words of the one before


@dataclass
class Side:
    """Messages of one kind, summed up. words : {words in a message: messages}, so that any quantile can be had."""

    messages: int = 0
    characters: int = 0
    tokens: int = 0
    words: Counter = field(default_factory=Counter)

    def __add__(self, other):
        return Side(
            self.messages + other.messages,
            self.characters + other.characters,
            self.tokens + other.tokens,
            self.words + other.words,
        )

    @property
    def word_sum(self):
        """Words in all messages together."""
        return sum(length * n for length, n in self.words.items())

    def quantile(self, share):
        """The number of words that `share` (0 … 1) of the messages do not exceed; 0 where there are none."""
        left = share * self.messages
        for length in sorted(self.words):
            left -= self.words[length]
            if left <= 0:
                return length
        return 0


@dataclass
class Measures:
    """What `measure` counted.

    sides       : {(source, role): Side}. by_turn : {(turn from 1, role): Side}.
    turns       : {source: {turns of a dialogue: dialogues}}. ends : {reason to stop: dialogues}.
    trimmed     : {source: answers cut back to their last whole sentence}. limited : {source: dialogues that stopped
                  because turns ("max_turns") or tokens ("length") ran out}.
    first_words : {first two words: questions}, without first questions that are the seed: a person wrote those.
    growth      : [(words read, distinct words among them)], rising. with_tokens : whether tokens were counted.
    """

    with_tokens: bool
    sides: dict = field(default_factory=dict)
    by_turn: dict = field(default_factory=dict)
    turns: dict = field(default_factory=dict)
    ends: Counter = field(default_factory=Counter)
    trimmed: Counter = field(default_factory=Counter)
    limited: Counter = field(default_factory=Counter)
    first_words: Counter = field(default_factory=Counter)
    growth: list = field(default_factory=list)


@uncollected()
def measure(dialogues, tokenizer=None):
    """Count everything in one pass, as `Measures`. Built in notebook 03.

    dialogues : any iterable, a `stream` for a file that is larger than the memory.
    tokenizer : of transformers or tokenizers, of the model to be trained; None counts no tokens. Counted are the
                tokens of the messages alone, without markers and special tokens.
    """
    count, dialogues = token_counter(tokenizer), iter(dialogues)
    measured, vocabulary = Measures(tokenizer is not None), _Vocabulary()
    while batch := list(islice(dialogues, _BATCH)):
        tokens = count([m["content"] for d in batch for m in d.messages])
        sides = [pair for dialogue in batch for pair in _count(dialogue, measured, vocabulary)]
        for (side, at_turn), n in zip(sides, tokens, strict=True):
            side.tokens += n
            at_turn.tokens += n
    measured.growth = vocabulary.points()
    return measured


def _count(dialogue, measured, vocabulary):
    """Add one dialogue; return the two `Side`s of each of its messages, which still lack their tokens."""
    source = dialogue.source
    measured.turns.setdefault(source, Counter())[dialogue.turns] += 1
    measured.ends[dialogue.end or "(not said)"] += 1
    measured.trimmed[source] += dialogue.usage.get("trimmed", 0)
    measured.limited[source] += dialogue.end.startswith(("max_turns", "length"))
    touched = []
    for i, message in enumerate(dialogue.messages):
        role, content = message["role"], message["content"]
        said = words(content)
        vocabulary.add(said)
        if role == "user" and said and (i or content != dialogue.seed):
            measured.first_words[" ".join(said[:2])] += 1
        pair = _side(measured.sides, (source, role)), _side(measured.by_turn, (i // 2 + 1, role))
        for side in pair:
            side.messages += 1
            side.characters += len(content)
            side.words[len(said)] += 1
        touched.append(pair)
    return touched


def _side(sides, key):
    if key not in sides:
        sides[key] = Side()
    return sides[key]


class _Vocabulary:
    """The distinct words so far, and how their number grew. A point falls on the first message end behind it."""

    def __init__(self):
        self.seen, self.total, self.next, self.found = set(), 0, 100, []

    def add(self, said):
        self.seen.update(said)
        self.total += len(said)
        if self.total >= self.next:
            self.found.append((self.total, len(self.seen)))
            self.next = int(self.total * _GROWTH) + 1

    def points(self):
        """All points, the last one at the corpus' end."""
        last = (self.total, len(self.seen))
        return self.found if self.found[-1:] == [last] or not self.total else [*self.found, last]
