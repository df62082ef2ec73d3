"""A corpus of any size, made from the words of the shipped one: the same numbers in, the same file out.

Knows: how long messages are and which word follows which. Does not know: meaning; nobody should train on this.
"""

import random
from collections import defaultdict
from itertools import pairwise

from baize_nb import common, corpus
from baize_nb.corpus import Dialogue

TURNS = {2: 10, 3: 25, 4: 45, 5: 15, 6: 5}  # dialogues in a hundred; 3.8 on average
SENTENCES = {"user": 20_000, "assistant": 200_000}  # different ones to choose from
COPIES = 0.02  # of all dialogues: an earlier one with a word in thirty changed
NEW_WORDS = 0.01  # of all words: made up, so that the vocabulary grows as it does in a real corpus
USAGE = {"prompt_tokens": 400, "completion_tokens": 300, "requests": 7}
SOURCES = ("quora-style", "stackoverflow-style", "medquad-style")


def dialogues(n, seed=0):
    """n dialogues, one after another."""
    rng = random.Random(seed)
    pools, sizes = _pools(rng)
    earlier = []
    for i in range(n):
        if earlier and rng.random() < COPIES:
            messages = [_changed(m, rng) for m in rng.choice(earlier)]
        else:
            turns = rng.choices(list(TURNS), TURNS.values())[0]
            messages = [_message(role, pools, sizes, rng) for _ in range(turns) for role in ("user", "assistant")]
            if len(earlier) < 5000:
                earlier.append(messages)
        seed, source = messages[0]["content"], SOURCES[i % len(SOURCES)]
        yield Dialogue(f"made-{i:07d}", seed, source, messages=messages, usage=dict(USAGE), end="max_turns")


def _pools(rng):
    """({role: sentences}, {role: numbers of sentences in a message}), after the shipped corpus."""
    shipped = corpus.read(common.DATA / "corpus" / "corpus.jsonl")
    pools, sizes = {}, {}
    for role in ("user", "assistant"):
        said = [text.split(". ") for d in shipped for text in d.said_by(role)]
        sizes[role] = [len(sentences) for sentences in said]
        pools[role] = _sentences([s for sentences in said for s in sentences], SENTENCES[role], rng)
    return pools, sizes


def _sentences(models, n, rng):
    """n sentences in which each word followed the one before somewhere in the models."""
    follows = defaultdict(list)
    for sentence in models:
        said = ["", *sentence.split(), ""]
        for word, following in pairwise(said):
            follows[word].append(following)
    return [_sentence(follows, rng) for _ in range(n)]


def _sentence(follows, rng):
    said, word = [], ""
    while (word := rng.choice(follows[word])) and len(said) < 60:
        said.append(word if rng.random() > NEW_WORDS else _new_word(rng))
    return " ".join(said)


def _new_word(rng):
    return "".join(rng.choice(("ba", "ke", "lo", "mi", "ra", "su", "te", "vo")) for _ in range(rng.randint(2, 5)))


def _message(role, pools, sizes, rng):
    text = ". ".join(rng.choices(pools[role], k=rng.choice(sizes[role])))
    return {"role": role, "content": text.strip() or "Why?"}


def _changed(message, rng):
    said = [word if rng.random() > 1 / 30 else _new_word(rng) for word in message["content"].split()]
    return message | {"content": " ".join(said)}
