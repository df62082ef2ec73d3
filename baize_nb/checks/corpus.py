"""Checks of notebook 03: a stricter loop rule, a rule of one's own, the split by seed.

Knows: what a right answer does, on small dialogues of its own. Does not know: how the student wrote it.
"""

import random

from ..corpus import Dialogue, repeated_share, seed_key
from . import attempt, report

_LOOPS = (
    "To plant basil, fill a pot with soil. To plant mint, fill a pot with soil. Water both.",
    "The pump moves water, and the pump moves air. It is old. In winter the pump moves water, and it is loud.",
)
_PLAIN = (
    "Ice is less dense than water, so it floats. The air inside a glacier makes it lighter still.",
    "First boil the water, then add the rice. When the rice is soft, drain the water and let the rice rest.",
    "Clean the brush in warm water. Dry it well. Clean the brush once a week, more often when you paint.",
    "No, no, it is not a bug.",
)


def strict_loop(rule):
    """Exercise 1. rule(dialogue) must object where more than 15 % of a message's trigrams repeat, and only there."""
    problem = ""
    for texts, bad in ((_LOOPS, True), (_PLAIN, False)):
        for text in texts:
            said = f"{text} ({repeated_share(text):.0%} repeats)"
            problem = problem or _rule_problem(rule, _exchange("Tell me more.", text), bad, said)
    hints = (
        "corpus.cleaning.loop has a second parameter; what is its default?",
        "call corpus.cleaning.loop(dialogue, limit=…) with a lower limit and return what it returns.",
    )
    return report("strict_loop", problem, hints)


def parrot(rule):
    """Exercise 2. rule(dialogue) must object where an answer opens with five words that follow each other in
    its own question, whatever their case and punctuation."""
    first = ("How do bees sleep?", "They rest in the cells of the comb.")
    cases = (
        (("How can I ensure that I stay awake during my shift?", "You stay awake during my shift if you nap."), False),
        (("Tell me why cats purr when they sleep.", "Cats purr when they sleep because they feel safe."), True),
        (("Why do cats, when happy, purr at night?", "When happy, purr at night they do."), True),
        (("Why is the sea salt?", "Rivers bring it."), False),
        (("Is it safe to eat snow?", "Safe to eat it is not."), False),
    )
    problem = ""
    for (question, answer), bad in cases:
        said = f"{question} → {answer}"
        problem = problem or _rule_problem(rule, _exchange(question, answer), bad, said)
        problem = problem or _rule_problem(rule, _exchange(*first, question, answer), bad, f"{said} (second turn)")
    other = (
        "Why do cats purr when they sleep?",
        "They are calm.",
        "And why?",
        "Cats purr when they sleep. That is all.",
    )
    problem = problem or _rule_problem(rule, _exchange(*other), False, "an answer that meets another turn's question")
    hints = (
        "corpus.words(text) gives the words in small letters, without punctuation; take the first five of the answer.",
        "go through the turns: messages[0] and [1], then [2] and [3] …; an answer meets its own question only.",
        "for each start i, compare question_words[i : i + 5] with the five; equal lists mean a parrot.",
    )
    return report("parrot", problem, hints)


def split(answer):
    """Exercise 3. answer(dialogues, heldout) must give (train, heldout): all dialogues, no seed on both sides, the
    same choice for every order of the input."""
    problem = ""
    for seeds, heldout in ((8, 2), (20, 5), (5, 1)):
        problem = problem or _split_problem(answer, _pool(seeds), heldout)
    hints = (
        "corpus.seed_key(dialogue) is equal for two dialogues of one seed; collect the dialogues of each key first.",
        "sort the keys before you choose among them: then the order of the input cannot matter.",
        "shuffle the sorted keys with random.Random(0), and take whole keys until there are enough.",
    )
    return report("split", problem, hints)


def _rule_problem(rule, dialogue, bad, said):
    """ "" when `rule` objects to `dialogue` if and only if it is `bad`."""
    why, problem = attempt(rule, dialogue)
    if problem:
        return problem
    if not isinstance(why, str):
        return f'a rule returns a text ("" where nothing is wrong); yours returned {why!r}.'
    if bool(why) == bad:
        return ""
    return f"{'it should object to' if bad else 'it should let pass'}: {said}"


def _split_problem(answer, pool, heldout):
    result, problem = attempt(answer, list(pool), heldout)
    if problem:
        return problem
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return f"it should return (train, heldout), it returned {type(result).__name__}."
    train, kept = ([d.id for d in side] for side in result)
    if sorted(train + kept) != sorted(d.id for d in pool):
        return f"of {len(pool)} dialogues, {len(train)} + {len(kept)} came back, or some came back twice."
    if {seed_key(d) for d in result[0]} & {seed_key(d) for d in result[1]}:
        return "a seed is on both sides: two dialogues may share one, written in other letters."
    if not max(1, heldout - 1) <= len(kept) <= heldout + 1:
        return f"{heldout} were to be kept away, {len(kept)} were."
    for turn in range(3):
        shuffled = random.Random(turn).sample(pool, len(pool))
        again, problem = attempt(answer, shuffled, heldout)
        if problem or sorted(d.id for d in again[1]) != sorted(kept):
            return problem or "another order of the same dialogues gave another choice."
    return ""


def _pool(seeds):
    """One dialogue for each seed, and a second one for every other seed, which it writes in capitals."""
    once = [_exchange(f"What is number {n}?", "A number.", name=f"d-{n}") for n in range(seeds)]
    twice = [_exchange(f"WHAT IS  NUMBER {n}?", "Ask again.", name=f"e-{n}") for n in range(0, seeds, 2)]
    return once + twice


def _exchange(*contents, name="d-1"):
    """A dialogue of these messages, user first."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return Dialogue(name, contents[0], source="check", messages=messages, end="max_turns")
