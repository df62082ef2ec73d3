"""Exercises of notebook 03: their checks, and mistakes with the hint that fits. Used by test_exercises.py."""

from exercises import solutions_of

from baize_nb import corpus
from baize_nb.corpus import rules
from checks import corpus as checks

SOLUTIONS = solutions_of("03_corpus_inspection")


def parrot_by_text(dialogue):
    """Forgets case and punctuation."""
    question, answer = (m["content"] for m in dialogue.messages[:2])
    opening = answer.split()[:5]
    return "parrot" if len(opening) == 5 and " ".join(opening) in question else ""


def parrot_first_turn_only(dialogue):
    """Forgets that a dialogue goes on."""
    return SOLUTIONS["parrot"](corpus.Dialogue("x", messages=dialogue.messages[:2]))


def parrot_in_any_order(dialogue):
    """Takes words that only occur for words that follow each other."""
    said = [corpus.words(m["content"]) for m in dialogue.messages]
    pairs = zip(said[::2], said[1::2], strict=True)
    return "parrot" if any(len(a) > 4 and set(a[:5]) <= set(q) for q, a in pairs) else ""


def parrot_of_anybody(dialogue):
    """Looks in all questions for every answer."""
    said = [corpus.words(m["content"]) for m in dialogue.messages]
    asked = " ".join(" ".join(question) for question in said[::2])
    return "parrot" if any(len(a) > 4 and " ".join(a[:5]) in asked for a in said[1::2]) else ""


def exact_copies(dialogues):
    """Finds only what is the same letter by letter."""
    return [d.id for i, d in enumerate(dialogues) if any(e.messages == d.messages for e in dialogues[:i])]


def same_seed(dialogues):
    """Takes one question for one dialogue."""
    return [d.id for i, d in enumerate(dialogues) if any(e.seed == d.seed for e in dialogues[:i])]


def both_copies(dialogues):
    """Removes the first as well."""
    return [d.id for d in dialogues if any(e.messages == d.messages for e in dialogues if e is not d)]


EXERCISES = {"strict_loop": checks.strict_loop, "parrot": checks.parrot, "duplicates": checks.duplicates}
MISTAKES = [
    ("strict_loop", rules.loop, checks._DEFAULT),
    ("strict_loop", lambda dialogue: rules.loop(dialogue, limit=15), checks._SHARE),
    ("strict_loop", lambda dialogue: "bad", checks._TOO_STRICT),
    ("parrot", parrot_by_text, checks._WORDS),
    ("parrot", parrot_first_turn_only, checks._TURNS),
    ("parrot", parrot_in_any_order, checks._IN_A_ROW),
    ("parrot", parrot_of_anybody, checks._OWN),
    ("duplicates", exact_copies, checks._DEAF),
    ("duplicates", same_seed, checks._WHOLE),
    ("duplicates", both_copies, checks._FIRST_STAYS),
]
