"""Checks of notebook 03: a stricter loop rule, a rule of one's own, a duplicate finder."""

from baize_nb.corpus import Dialogue, repeated_share

from . import Wrong, call, exercise, expect, refuse

DEFAULT = "the second parameter of corpus.cleaning.loop is its limit; what is the default?"
SHARE = "corpus.cleaning.loop has a second parameter, its limit: a share from 0 to 1."
TOO_STRICT = "an ordinary text repeats a trigram now and then: the limit must be above that."
JUST_ABOVE = "16 % is more than 15 %: with which limit do you compare?"
JUST_BELOW = "14 % is not more than 15 %: with which limit do you compare?"
LOOPS = (  # (answer, whether a rule must object to it, the hint for those who get it wrong)
    ("Salt and water, salt and water, salt and water, salt and water.", True, SHARE),
    ("To plant basil, fill a pot with soil. To plant mint, fill a pot with soil. Water both.", True, DEFAULT),
    ("The pump moves water, and the pump moves air. In winter the pump moves water, and is loud.", True, DEFAULT),
    ("Ice is less dense than water, so it floats. The air inside makes it lighter still.", False, TOO_STRICT),
    ("First boil the water, then add the rice. When it is soft, drain the water.", False, TOO_STRICT),
    (
        "Clean the brush in warm water. Dry it well. Clean the brush once a week, more often when you paint.",
        False,
        TOO_STRICT,
    ),
    ("No, no, it is not a bug.", False, TOO_STRICT),
    ("Fill the pot with water. Later fill the pot with salt, and taste it.", True, JUST_ABOVE),
    ("Fill the pot with water. Later fill the pot with salt, and taste it again soon.", False, JUST_BELOW),
)


@exercise(
    "you need not count anything: corpus.cleaning.loop(dialogue, limit=…) does.",
    "give back what corpus.cleaning.loop(dialogue, limit=0.15) gives back.",
)
def strict_loop(rule):
    """Exercise 1. rule(dialogue) must object where more than 15 % of a message's trigrams repeat, and only there."""
    _objects(rule, [(("More.", said), bad, hint) for said, bad, hint in LOOPS])


OPENING = "take the first five words of the answer, and look for them in the question."
WORDS = "corpus.words(text) gives the words in small letters, without punctuation; compare those, not the texts."
IN_A_ROW = "the five must follow each other in the question: compare question_words[i : i + 5] for each start i."
FIVE = "fewer than five words, or five that are not all there, are no parrot."
TURNS = "go through all turns: messages[0] and [1], then [2] and [3] …"
OWN = "an answer meets the question just before it, no other one."
FIRST = ("How do bees sleep?", "They rest in the cells of the comb.")
PARROTS = (
    (("why do cats purr when they sleep", "cats purr when they sleep because they feel safe"), True, OPENING),
    (("Tell me why cats purr when they sleep.", "Cats purr when they sleep because they feel safe."), True, WORDS),
    (("Why do cats, when happy, purr at night?", "When happy, purr at night they do."), True, WORDS),
    (("Can we, if it rains, play inside?", "If it rains play inside the house."), True, WORDS),
    (("How can I make sure that I stay awake at work?", "You stay awake at work if you nap."), False, FIVE),
    (("Why is the sea salt?", "The sea salt."), False, FIVE),
    (("Is it safe to eat snow?", "Safe to eat it is not."), False, IN_A_ROW),
    ((*FIRST, "Why do cats purr when they sleep?", "Cats purr when they sleep in peace."), True, TURNS),
    (("Why do cats purr when they sleep?", "They are calm.", "Yes?", "Cats purr when they sleep."), False, OWN),
    (("Do great cars run on old roads?", "Eat cars run on old roads."), False, WORDS),
)


@exercise(
    "cut every message with corpus.words; then zip the questions, said[::2], with the answers, said[1::2].",
    "any(question[i : i + 5] == answer[:5] for i in range(len(question))), if the answer has five words.",
)
def parrot(rule):
    """Exercise 2. rule(dialogue) must object where an answer opens with five words in a row of its own question."""
    _objects(rule, PARROTS)


def _objects(rule, cases):
    """Raise Wrong at the first case that `rule` gets wrong."""
    for contents, bad, hint in cases:
        why = call(rule, _dialogue(*contents), hint=hint)
        if not isinstance(why, str):
            raise Wrong(f'a rule returns a text ("" where nothing is wrong); yours returned {why!r}.', hint)
        if bool(why) != bad:
            wanted, share = "object to" if bad else "let pass", repeated_share(contents[-1])
            raise Wrong(f"it should {wanted}: {' → '.join(contents)} ({share:.1%} of the trigrams repeat)", hint)


def _dialogue(*contents, name="d-1"):
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return Dialogue(name, contents[0], source="check", messages=messages, end="max_turns")


COFFEE = "Grind the beans fresh, heat the water to just below boiling, pour it slowly in circles and wait four minutes"
TEA = "Warm the pot first, take a spoon of leaves for each cup and one for the pot, and let them draw a while"
ASKED = "How do I make good coffee?"
AT_LENGTH = (
    "The old machine at work ruins every cup that we drink there before noon, and a friend from Naples laughs at it; "
    "is there a simple way to do better at a desk, with no more than a kettle?"
)
BREAD = "Wrap the loaf in a cloth, keep it in a wooden box, never in the fridge."
SOUP = "Let it cool, fill a small box, write the date on it."
FIRST_STAYS = "the first of several stays: name the later ones only."
MEMORY = "keep the texts met so far, and look among them."
WHOLE = "compare whole dialogues, questions and answers together: one of the two alone may well be the same."
DEAF = "corpus.overlap(text, other) takes no notice of case and punctuation."
LIMIT = "a copy has at least 70 % in common: compare what corpus.overlap gives with 0.7."
COPIES = (  # (name, seed, answer, whether it is a copy of an earlier one, hint)
    ("a", ASKED, f"{COFFEE}.", False, FIRST_STAYS),
    ("b", "How do I make good tea?", f"{TEA}.", False, WHOLE),
    ("c", ASKED, f"{COFFEE}.", True, MEMORY),
    ("d", ASKED, "Ask the neighbor.", False, WHOLE),
    ("e", ASKED.upper(), f"{COFFEE}!", True, DEAF),
    ("f", ASKED, f"{COFFEE.replace('slowly', 'gently')}.", True, LIMIT),
    ("g", AT_LENGTH, f"{COFFEE}.", False, WHOLE),
    ("h", "How do I store bread?", BREAD, False, FIRST_STAYS),
    ("i", "How do I store bread?", BREAD.replace("wooden", "paper"), True, LIMIT),  # 73 % in common
    ("j", "How do I freeze soup?", SOUP, False, FIRST_STAYS),
    ("k", "How do I freeze soup?", SOUP.replace("small", "glass"), False, LIMIT),  # 67 %
)


@exercise(
    'the text of a dialogue: "\\n".join(m["content"] for m in dialogue.messages).',
    "if any(corpus.overlap(text, other) >= 0.7 for other in kept): note the id; else: kept.append(text).",
)
def duplicates(answer):
    """Exercise 3. answer(dialogues) must give the ids of those with 70 % in common with an earlier one, in order."""
    hint = 'begin with an empty list and append dialogue.id; return the list at the end, like ["c", "e"].'
    found = call(answer, [_dialogue(seed, said, name=name) for name, seed, said, _, _ in COPIES], hint=hint)
    if not isinstance(found, list | tuple):
        raise Wrong(f"it should return a list of ids, it returned {type(found).__name__}.", hint)
    for name, seed, said, copy, hint in COPIES:
        wanted = "is a copy" if copy else "is no copy"
        refuse(f"{name!r} {wanted} of an earlier one: {seed} → {said}", ((name in found) != copy, hint))
    expect(list(found), [name for name, _, _, copy, _ in COPIES if copy], "the dialogues", "each id once.")
