"""The prompts that models are compared on: 80, written for this course, sixteen of each kind.

Knows: data/prompts/evaluation.jsonl and its form. Does not know: models. Built in notebook 06.
"""

from collections import Counter
from typing import NamedTuple

from .. import common, transcript

KINDS = ("general", "code", "health", "safety", "multi-turn")


class Prompt(NamedTuple):
    """What a model is to reply to. messages: as in a corpus, but the last one is the user's; kind: one of KINDS."""

    id: str
    kind: str
    messages: list

    @property
    def question(self):
        """The last user message."""
        return self.messages[-1]["content"]


def prompts(n=None, *kinds, path=None):
    """[Prompt]: `n` of these kinds, spread evenly over them; all where `n` is None or larger than what there is.

    kinds : of KINDS; none named: all. path : a file of your own in the same form.
    The first of each kind, in the order of the file, so a larger `n` holds every prompt of a smaller one.
    Raises CourseError, with file and line, for a line that is no prompt.
    """
    path = path or common.DATA / "prompts" / "evaluation.jsonl"
    found = [p for p in common.read_jsonl(path, _prompt, "prompt") if p.kind in (kinds or KINDS)]
    seen, ranked = Counter(), []
    for place, prompt in enumerate(found):
        ranked.append((seen[prompt.kind], place))
        seen[prompt.kind] += 1
    chosen = sorted(place for _, place in sorted(ranked)[:n])
    return [found[place] for place in chosen]


def _prompt(line):
    """One line as a Prompt."""
    prompt = Prompt(**line)
    transcript.check(prompt.messages)
    if prompt.kind not in KINDS:
        raise ValueError(f"its kind is {prompt.kind!r}, which is none of {', '.join(KINDS)}")
    if len(prompt.messages) % 2 == 0:
        raise ValueError("its last message is not the user's")
    return prompt
