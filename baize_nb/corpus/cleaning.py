"""Which dialogues a model should not learn from, and why: small rules, each a function of one dialogue.

Knows: what faults look like. Does not know: whether an answer is true. No rule here can tell.
The limits are chosen by eye on the embedded teacher's dialogues; a rule finds English phrases only where it names them.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

from .. import artifacts
from .store import Dialogue
from .text import contained, overlap, repeated_share, trigrams, words

_MARKER = re.compile(
    r"\[\|?(?:human|ai)\|?\]|<\|im_(?:start|end)\|>|<\|(?:user|assistant|system|endoftext)\|>"
    r"|^\s*(?:human|user|assistant|ai|ai assistant)\s*:|^\s*###\s*(?:instruction|response|human|assistant)\b",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSAL = re.compile(
    r"\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b"
    r"|^\W*(?:(?:I'm|I am) (?:really |very |so )?sorry,? (?:but )?|sorry,? (?:but )?|unfortunately,? )?"
    r"I (?:can't|cannot|can not|am unable to|'m unable to|am not able to|'m not able to) "
    r"(?:help|assist|answer|provide|fulfil|comply|do that|continue|discuss)",
    re.IGNORECASE,
)
_ANSWERING = re.compile(
    r"^(?:sure|certainly|of course|absolutely|here (?:is|are)|here's|you (?:can|could|should|may)"
    r"|I'm (?:glad|happy) to|I am (?:glad|happy) to|that's a great)\b",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)
_UNFINISHED = re.compile(
    r"(?:[,(\[{–—]|\b(?:a|an|the|of|to|for|with|and|or|but|from|into|than|that|which|your|their|its|is|are))$",
    re.IGNORECASE,
)


def no_words(dialogue):
    """A message has no letter and no digit in it."""
    return next((f"message {i} has no word in it" for i, m in _numbered(dialogue) if not words(m)), "")


def role_marker(dialogue):
    """A role marker stands inside a message.

    The teacher wrote the next speaker's turn too, or the text would break the training format.
    """
    for i, content in _numbered(dialogue):
        if found := _MARKER.search(content):
            return f"message {i} contains {found.group().strip()!r}"
    return ""


def refusal(dialogue):
    """An answer declines, or speaks of itself as an AI: on a harmless seed, that teaches to refuse."""
    for content in dialogue.said_by("assistant"):
        if found := _REFUSAL.search(content):
            return f"an answer says {found.group().strip()!r}"
    return ""


def loop(dialogue, limit=0.3):
    """A message goes round in circles: over `limit` of its word trigrams stood in it before."""
    for i, content in _numbered(dialogue):
        share = repeated_share(content)
        if share > limit:
            return f"{share:.0%} of the trigrams of message {i} repeat"
    return ""


def same_again(dialogue, limit=0.6):
    """A speaker says again what they said before: over `limit` of the trigrams in common."""
    for role in ("user", "assistant"):
        said = dialogue.said_by(role)
        for later in range(1, len(said)):
            share = max(overlap(said[later], earlier) for earlier in said[:later])
            if share > limit:
                return f"{role} message {later + 1} repeats an earlier one ({share:.0%} in common)"
    return ""


def not_a_question(dialogue, limit=60):
    """A user turn reads like an answer: over `limit` words, a list, or an answer's first words.

    The first user turn is the seed, which a person wrote: it is left alone.
    """
    for i, content in enumerate(dialogue.said_by("user")[1:], start=2):
        if len(words(content)) > limit:
            return f"user turn {i} is {len(words(content))} words long"
        if len(_LIST_ITEM.findall(content)) > 1:
            return f"user turn {i} is a list"
        if found := _ANSWERING.match(content):
            return f"user turn {i} begins like an answer: {found.group()!r}"
    return ""


def echo(dialogue, limit=0.5):
    """An answer hands the question back: over `limit` of its trigrams stand in the question."""
    for turn in range(dialogue.turns):
        question, answer = (dialogue.messages[2 * turn + side]["content"] for side in (0, 1))
        share = contained(answer, question)
        if share > limit:
            return f"{share:.0%} of answer {turn + 1} stands in its question"
    return ""


def cut_off(dialogue):
    """A message stops in mid-sentence or inside a code block; a trimmed answer that ends whole is fine.

    The first user turn is the seed, often a title like "What is this for": it is left alone.
    """
    for i, content in _numbered(dialogue)[1:]:
        if found := _UNFINISHED.search(content.rstrip()):
            return f"message {i} ends with {found.group()!r}"
        if content.count("```") % 2:
            return f"message {i} ends inside a code block"
    return ""


RULES = (no_words, role_marker, refusal, loop, same_again, not_a_question, echo, cut_off)


class Removed(NamedTuple):
    """A dialogue that `clean` set aside: which rule, and what it saw."""

    dialogue: Dialogue
    rule: str
    why: str


class Cleaned(NamedTuple):
    """What `clean` gives back: kept, [Dialogue]; removed, [Removed]. Together they are all that went in."""

    kept: list
    removed: list

    def counts(self):
        """`{rule: dialogues removed}`, the busiest rule first."""
        return dict(Counter(r.rule for r in self.removed).most_common())


def clean(dialogues, rules=RULES, duplicates=0.7):
    """Sort dialogues into kept and removed, both in the order they came. Built in notebook 03.

    rules      : functions of a dialogue that return "" when it is fine, else why not. The first to object is named.
    duplicates : dialogues with at least this trigram Jaccard similarity to an earlier kept one are removed as
                 "duplicate"; None looks for no duplicates. Below 0.6 some pairs are missed: see `near_duplicates`.
    """
    verdicts = [_judge(dialogue, rules) for dialogue in dialogues]
    # Duplicates are sought among the good ones only: a bad first copy must not cost us a good second one.
    good = [i for i, verdict in enumerate(verdicts) if verdict is None]
    if duplicates is not None:
        found = near_duplicates([dialogues[i] for i in good], duplicates)
        for i, (first, share) in found.items():
            why = f"{share:.0%} of its trigrams in common with {dialogues[good[first]].id}"
            verdicts[good[i]] = Removed(dialogues[good[i]], "duplicate", why)
    return Cleaned([d for d, v in zip(dialogues, verdicts, strict=True) if v is None], [v for v in verdicts if v])


def near_duplicates(dialogues, threshold=0.7):
    """`{index: (index of the earlier one, similarity)}` of dialogues that say what an earlier one says.

    MinHash finds the candidates without comparing every pair; the exact Jaccard similarity of their word trigrams
    then decides, so nothing is removed on an estimate. With 32 bands of 4 a pair at 0.7 is missed once in 5,000
    times, at 0.5 once in 8.
    """
    index = RMinHashLSH(threshold, 128, 32)
    texts = ["\n".join(m["content"] for m in d.messages) for d in dialogues]
    found = {}
    for i, text in enumerate(texts):
        sketch = RMinHash(128, 0)
        sketch.update([" ".join(run) for run in trigrams(text)])
        scored = [(overlap(text, texts[j]), -j) for j in index.query(sketch)]
        share, first = max(scored, default=(0.0, 0))
        if share >= threshold:
            found[i] = (-first, share)
        else:
            index.insert(i, sketch)
    return found


def write_removed(removed, path):
    """Write what `clean` set aside, one dialogue a line with "removed_by" and "why"; `read` reads it back."""
    lines = [json.loads(r.dialogue.to_json()) | {"removed_by": r.rule, "why": r.why} for r in removed]
    artifacts.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return Path(path)


def _judge(dialogue, rules):
    """Removed by the first rule that objects, or None."""
    for rule in rules:
        if why := rule(dialogue):
            return Removed(dialogue, getattr(rule, "__name__", "rule"), str(why))
    return None


def _numbered(dialogue):
    """(number from 1, content) of each message."""
    return [(i, m["content"]) for i, m in enumerate(dialogue.messages, start=1)]
