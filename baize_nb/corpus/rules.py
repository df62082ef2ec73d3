"""What is wrong in the form of a dialogue: small rules, each a function of one dialogue. Built in notebook 03.

A rule returns "" where it finds nothing, else what it saw. It knows what a fault looks like, not whether an answer is
true: no rule here can tell. Limits were chosen by eye on the embedded teacher's dialogues; phrases are English ones.
Rules about what is said (personal data, abuse, language, topic) are in content_rules.py.
"""

import functools
import re

from .text import words

_MARKER = re.compile(
    r"\[\|?(?:human|ai)\|?\]|<\|im_(?:start|end)\|>|<\|(?:user|assistant|system|endoftext)\|>"
    r"|^\s*(?:human|user|assistant|ai|ai assistant)\s*:|^\s*###\s*(?:instruction|response|human|assistant)\b",
    re.IGNORECASE | re.MULTILINE,
)
# Patterns without regard to case are slow: signs that each of them needs stand in front, here and below.
_MARKER_SIGNS = ("[human", "[|human", "[ai", "[|ai", "<|", "human", "user", "assistant", "ai:", "ai ", "###")
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]m|i am) (?:really |very |so )?sorry,? (?:but )?|sorry,? (?:but )?|unfortunately,? )?"
    r"i (?:can['’]t|cannot|can not|am unable to|['’]m unable to|am not able to|['’]m not able to) "
    r"(?:help|assist|answer|provide|fulfil|comply|do that|continue|discuss)",
    re.IGNORECASE,
)
_AN_AI = re.compile(
    r"\b(?:as|i am|i['’]m)(?: just| only)? an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"(?! (?:developer|engineer|expert|researcher|scientist|specialist|student)\b)",
    re.IGNORECASE,
)
_AN_AI_SIGNS = (" an ai", " artificial int", " language model")
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
_TAIL = 8  # characters: the longest word that _UNFINISHED looks for, and what stands before it


def no_words(dialogue):
    """A message has no letter and no digit in it."""
    said = _numbered(dialogue)
    return next((f"message {i} has no word in it" for i, m in said if not cut(m)), "")


def role_marker(dialogue):
    """A role marker stands inside a message.

    The teacher wrote the next speaker's turn too, or the text would break the training format.
    """
    whole = "\n".join([m["content"] for m in dialogue.messages]).lower()
    if any(sign in whole for sign in _MARKER_SIGNS):
        for i, content in _numbered(dialogue):
            if found := _MARKER.search(content):
                return f"message {i} contains {found.group().strip()!r}"
    return ""


def refusal(dialogue):
    """An answer declines: on a harmless seed, that teaches to refuse."""
    found = (_REFUSAL.match(content) for content in dialogue.said_by("assistant"))
    return next((f"an answer says {hit.group().strip()!r}" for hit in found if hit), "")


def as_an_ai(dialogue):
    """An answer speaks of itself as an AI, which no person asked about."""
    answers = dialogue.said_by("assistant")
    whole = "\n".join(answers).lower()
    if any(sign in whole for sign in _AN_AI_SIGNS):
        found = (_AN_AI.search(content) for content in answers)
        return next((f"an answer says {hit.group()!r}" for hit in found if hit), "")
    return ""


def loop(dialogue, limit=0.3):
    """A message goes round in circles: over `limit` of its word trigrams stood in it before."""
    for i, content in _numbered(dialogue):
        total, runs = _runs(content)
        if total - len(runs) > limit * total:
            return f"{1 - len(runs) / total:.0%} of the trigrams of message {i} repeat"
    return ""


def same_again(dialogue, limit=0.6):
    """A speaker says again what they said before: over `limit` of the trigrams in common."""
    for role in ("user", "assistant"):
        said = [_runs(content)[1] for content in dialogue.said_by(role)]
        for later in range(1, len(said)):
            share = max([_jaccard(said[later], earlier, limit) for earlier in said[:later]])
            if share > limit:
                return f"{role} message {later + 1} repeats an earlier one ({share:.0%} in common)"
    return ""


def not_a_question(dialogue, limit=60):
    """A user turn reads like an answer: over `limit` words, a list, or an answer's first words.

    The first user turn is the seed, which a person wrote: it is left alone.
    """
    for i, content in enumerate(dialogue.said_by("user")[1:], start=2):
        if len(cut(content)) > limit:
            return f"user turn {i} is {len(cut(content))} words long"
        if "\n" in content and len(_LIST_ITEM.findall(content)) > 1:
            return f"user turn {i} is a list"
        if found := _ANSWERING.match(content):
            return f"user turn {i} begins like an answer: {found.group()!r}"
    return ""


def echo(dialogue, limit=0.5):
    """An answer hands the question back: over `limit` of its trigrams stand in the question."""
    for turn in range(dialogue.turns):
        question, answer = (_runs(dialogue.messages[2 * turn + side]["content"])[1] for side in (0, 1))
        share = len(answer & question) / len(answer) if answer else 0.0
        if share > limit:
            return f"{share:.0%} of answer {turn + 1} stands in its question"
    return ""


def cut_off(dialogue, limit=20):
    """A message stops in mid-sentence or inside a code block; a trimmed answer that ends whole is fine.

    In mid-sentence: after a word that wants another one; or, in an answer of over `limit` words whose last line is
    prose, without any mark at its end (a list flattened into one line is met as well). The first user turn is the
    seed, often a title like "What is this for": it is left alone.
    """
    for i, content in _numbered(dialogue)[1:]:
        end = content.rstrip()
        if found := _UNFINISHED.search(end[-_TAIL:]):
            return f"message {i} ends with {found.group()!r}"
        if content.count("```") % 2:
            return f"message {i} ends inside a code block"
        if i % 2 == 0 and end[-1:].isalpha() and len(cut(content)) > limit and _is_prose(end.splitlines()[-1]):
            return f"message {i} ends without a full stop"
    return ""


FORM = (no_words, role_marker, refusal, as_an_ai, loop, same_again, not_a_question, echo, cut_off)


@functools.lru_cache(maxsize=256)  # most rules look at the same message one after the other: cut it up once
def cut(text):
    """The words of a text, as a tuple."""
    return tuple(words(text))


@functools.lru_cache(maxsize=256)
def _runs(text):
    """(number of word trigrams, the different ones as a frozenset) of a text; see text.trigrams."""
    said = cut(text)
    runs = frozenset(zip(said, said[1:], said[2:], strict=False)) or frozenset([said] * bool(said))
    return max(len(said) - 2, len(runs)), runs


def _jaccard(a, b, limit):
    """Jaccard similarity of two sets, 1 for two empty ones; 0 where their sizes alone keep it at `limit` or below."""
    small, large = sorted((len(a), len(b)))
    if small <= limit * large:
        return float(not large)
    common = len(a & b)
    return common / (small + large - common)


def _is_prose(line):
    """Whether a line has a sentence's length and is no heading, list item or table row."""
    return len(cut(line)) > 7 and not _LIST_ITEM.match(line) and not line.lstrip().startswith(("#", "|"))


def _numbered(dialogue):
    """(number from 1, content) of each message."""
    return [(i, m["content"]) for i, m in enumerate(dialogue.messages, start=1)]
