"""A few dialogues of two or three dozen tokens, and settings that train on them in seconds."""

from dataclasses import replace

from baize_nb import profiles
from baize_nb.corpus import Dialogue


def chat(*texts):
    """Messages of a dialogue; the human begins."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def dialogue(*texts, id="d", **fields):
    return Dialogue(id=id, messages=chat(*texts), **fields)


DIALOGUES = [
    dialogue("Why is the sky blue?", "Air scatters blue light most.", "And at dusk?", "Red light is left.", id="a"),
    dialogue("What is asthma?", "A disease of the airways.", id="b"),
    dialogue("How do I list files?", "Type `ls`, and read what comes.\n\nThat is all.", "Thanks.", "Gladly.", id="c"),
    dialogue("What do bees eat?", "Nectar and pollen.", id="d"),
]
TINY = replace(profiles.get("ci"), max_length=96, warmup_steps=0, dropout=0.0, rank=2)


def program(module):
    """Python that trains as `python -m baize_nb.finetune` does, by the `PROFILE` of a test module in place of ci's."""
    return f"""
import sys
from {module} import PROFILE
from baize_nb import profiles
from baize_nb.finetune.__main__ import main
profiles.PROFILES["ci"] = PROFILE
sys.exit(main(sys.argv[1:]))
"""
