"""Checks of notebook 03: a stricter loop rule, a rule of one's own, a duplicate finder.

Knows: what a right answer does, on small dialogues of its own, and which mistake a wrong one points to. Does not know:
how the student wrote it. The first hint fits the case that went wrong; the others say more about the way.
"""

from typing import NamedTuple

from baize_nb.corpus import Dialogue, repeated_share

from . import attempt, report


class Case(NamedTuple):
    """Messages (user first), whether a rule must object to them, and the hint for those who get it wrong."""

    contents: tuple
    bad: bool
    hint: str


_DEFAULT = "the second parameter of corpus.rules.loop is its limit; what is the default?"
_SHARE = "corpus.rules.loop has a second parameter, its limit: a share from 0 to 1."
_TOO_STRICT = "an ordinary text repeats a trigram now and then: the limit must be above that."
_LOOPS = (
    Case(("More.", "Salt and water, salt and water, salt and water, salt and water."), True, _SHARE),
    Case(
        ("More.", "To plant basil, fill a pot with soil. To plant mint, fill a pot with soil. Water both."),
        True,
        _DEFAULT,
    ),
    Case(
        (
            "More.",
            "The pump moves water, and the pump moves air. It is old. In winter the pump moves water, and is loud.",
        ),
        True,
        _DEFAULT,
    ),
    Case(
        ("More.", "Ice is less dense than water, so it floats. The air inside makes it lighter still."),
        False,
        _TOO_STRICT,
    ),
    Case(
        (
            "More.",
            "First boil the water, then add the rice. When the rice is soft, drain the water and let the rice rest.",
        ),
        False,
        _TOO_STRICT,
    ),
    Case(
        (
            "More.",
            "Clean the brush in warm water. Dry it well. Clean the brush once a week, more often when you paint.",
        ),
        False,
        _TOO_STRICT,
    ),
    Case(("More.", "No, no, it is not a bug."), False, _TOO_STRICT),
)

_OPENING = "take the first five words of the answer, and look for them in the question."
_WORDS = "corpus.words(text) gives the words in small letters, without punctuation; compare those, not the texts."
_IN_A_ROW = "the five must follow each other in the question: compare question_words[i : i + 5] for each start i."
_FIVE = "fewer than five words, or five that are not all there, are no parrot."
_TURNS = "go through all turns: messages[0] and [1], then [2] and [3] …"
_OWN = "an answer meets the question just before it, no other one."
_FIRST = ("How do bees sleep?", "They rest in the cells of the comb.")
_PARROTS = (
    Case(("why do cats purr when they sleep", "cats purr when they sleep because they feel safe"), True, _OPENING),
    Case(("Tell me why cats purr when they sleep.", "Cats purr when they sleep because they feel safe."), True, _WORDS),
    Case(("Why do cats, when happy, purr at night?", "When happy, purr at night they do."), True, _WORDS),
    Case(("Can we, if it rains, play inside?", "If it rains play inside the house."), True, _WORDS),
    Case(("How can I make sure that I stay awake at work?", "You stay awake at work if you nap."), False, _FIVE),
    Case(("Why is the sea salt?", "The sea salt."), False, _FIVE),
    Case(("Is it safe to eat snow?", "Safe to eat it is not."), False, _IN_A_ROW),
    Case((*_FIRST, "Why do cats purr when they sleep?", "Cats purr when they sleep in peace."), True, _TURNS),
    Case(("Why do cats purr when they sleep?", "They are calm.", "Yes?", "Cats purr when they sleep."), False, _OWN),
    Case(("Do great cars run on old roads?", "Eat cars run on old roads."), False, _WORDS),
)


def strict_loop(rule):
    """Exercise 1. rule(dialogue) must object where more than 15 % of a message's trigrams repeat, and only there."""
    problem, hint = _wrong_case(rule, _LOOPS, lambda said: f"{said} ({repeated_share(said):.0%} repeats)")
    hints = (
        hint,
        "you need not count anything: corpus.rules.loop(dialogue, limit=…) does.",
        "give back what corpus.rules.loop(dialogue, limit=0.15) gives back.",
    )
    return report("strict_loop", problem, hints)


def parrot(rule):
    """Exercise 2. rule(dialogue) must object where an answer opens with five words that follow each other in
    its own question, whatever their case and punctuation."""
    problem, hint = _wrong_case(rule, _PARROTS, str)
    hints = (
        hint,
        "cut every message with corpus.words; then zip the questions, said[::2], with the answers, said[1::2].",
        "any(question[i : i + 5] == answer[:5] for i in range(len(question))), if the answer has five words.",
    )
    return report("parrot", problem, hints)


_COFFEE = "Grind the beans fresh, heat the water to just below boiling, pour it slowly in circles and wait four minutes"
_TEA = "Warm the pot first, take a spoon of leaves for each cup and one for the pot, and let them draw a while"
_COFFEE_SEED = "How do I make good coffee?"
_FIRST_STAYS = "the first of several stays: name the later ones only."
_FEW_WORDS = "two dialogues that share a few words are no copies."
_MEMORY = "keep the texts met so far, and look among them."
_WHOLE = "one question, two answers: compare whole dialogues, not seeds."
_DEAF = "corpus.overlap(text, other) takes no notice of case and punctuation."
_NEAR = "one word differs: ask how much is in common, with corpus.overlap(text, other)."
_COPIES = (  # (name, seed, answer, whether it is a copy of an earlier one, hint)
    ("a", _COFFEE_SEED, f"{_COFFEE}.", False, _FIRST_STAYS),
    ("b", "How do I make good tea?", f"{_TEA}.", False, _FEW_WORDS),
    ("c", _COFFEE_SEED, f"{_COFFEE}.", True, _MEMORY),
    ("d", _COFFEE_SEED, "Ask the neighbor.", False, _WHOLE),
    ("e", _COFFEE_SEED.upper(), f"{_COFFEE}!", True, _DEAF),
    ("f", _COFFEE_SEED, f"{_COFFEE.replace('slowly', 'gently')}.", True, _NEAR),
)


def duplicates(answer):
    """Exercise 3. answer(dialogues) must give the ids of the dialogues that have at least 70 % of their trigrams in
    common (Jaccard, all messages) with an earlier one, in order."""
    pool = [_exchange(seed, said, name=name) for name, seed, said, _, _ in _COPIES]
    problem, hint = _wrong_copies(answer, pool)
    hints = (
        hint,
        'the text of a dialogue: "\\n".join(m["content"] for m in dialogue.messages).',
        "if any(corpus.overlap(text, other) >= 0.7 for other in kept): note the id; else: kept.append(text).",
    )
    return report("duplicates", problem, hints)


def _wrong_case(rule, cases, told):
    """(problem, hint) of the first case that `rule` gets wrong, ("", "") for none. told: shows an answer in words."""
    for case in cases:
        why, problem = attempt(rule, _exchange(*case.contents))
        if not problem and not isinstance(why, str):
            problem = f'a rule returns a text ("" where nothing is wrong); yours returned {why!r}.'
        if not problem and bool(why) != case.bad:
            wanted = "it should object to" if case.bad else "it should let pass"
            problem = f"{wanted}: {' → '.join([*case.contents[:-1], told(case.contents[-1])])}"
        if problem:
            return problem, case.hint
    return "", ""


def _wrong_copies(answer, pool):
    """(problem, hint) of the first dialogue that `answer` gets wrong, ("", "") for none."""
    found, problem = attempt(answer, list(pool))
    if not problem and not isinstance(found, (list, tuple)):
        problem = f"it should return a list of ids, it returned {type(found).__name__}."
    if problem:
        return problem, 'begin with an empty list and append dialogue.id; return the list at the end, like ["c", "e"].'
    for (name, seed, said, copy, hint), dialogue in zip(_COPIES, pool, strict=True):
        if (dialogue.id in found) != copy:
            wanted = "is a copy, and is not in your list" if copy else "is no copy of an earlier one, but in your list"
            return f"{name!r} {wanted}: {seed} → {said}", hint
    expected = [name for name, _, _, copy, _ in _COPIES if copy]
    return ("", "") if list(found) == expected else (f"{expected} was expected, {list(found)} came.", "each id once.")


def _exchange(*contents, name="d-1"):
    """A dialogue of these messages, user first."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return Dialogue(name, contents[0], source="check", messages=messages, end="max_turns")
