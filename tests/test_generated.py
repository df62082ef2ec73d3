"""The corpus that the benchmarks run on: of the size and shape that they say, the same each time."""

import sys
from pathlib import Path
from statistics import mean

from baize_nb import corpus, transcript

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import generated

MADE = list(generated.dialogues(600))


def test_the_same_numbers_give_the_same_dialogues():
    assert list(generated.dialogues(600)) == MADE
    assert list(generated.dialogues(20, seed=1)) != MADE[:20]
    assert len({d.id for d in MADE}) == 600


def test_every_dialogue_is_whole_and_as_long_as_baize_s():
    for dialogue in MADE:
        transcript.check(dialogue.messages)
    assert 3.6 < mean(len(d.messages) / 2 for d in MADE) < 4.0


def test_near_copies_are_there_to_be_found():
    found = corpus.near_duplicates(MADE)
    assert 3 <= len(found) <= 30
