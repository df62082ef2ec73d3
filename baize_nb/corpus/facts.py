"""What a teacher claimed beside what a source says, and a crude score that ranks the pairs worth reading first.

Knows: seeds that carry a reference answer, and which words two texts share. Does not know: what is true.
A low score is a hint, no proof: a right answer may use other words, and a reference is short. A high score proves
nothing either: "not" is no content word, so a claim and its opposite score the same. Built in notebook 03.
"""

import html
import re
import textwrap
from typing import NamedTuple

from .language import content_words
from .splitting import seed_key
from .store import Dialogue
from .text import words

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_HEAD = '<th style="text-align:left">'
_LIST_NUMBER = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)


class Claim(NamedTuple):
    """A first answer and the reference to its seed.

    found   : share of the claim's different content words that stand in the reference, 0 … 1.
    numbers : numbers of the claim that do not stand in the reference, as written. ("three" is no number here.)
    """

    id: str
    question: str
    claim: str
    reference: str
    found: float
    numbers: list


def compare(dialogues, seeds):
    """[Claim] of the dialogues whose seed has a reference answer, the lowest `found` first. Built in notebook 03.

    dialogues : matched with `seeds` by the seed's text; only the first answer is looked at, since the reference
                answers the seed. Dialogues without a reference are left out.
    """
    references = {seed_key(Dialogue(s.id, s.text)): s.reference for s in seeds if s.reference}
    claims = [_claim(dialogue, references[key]) for dialogue in dialogues if (key := seed_key(dialogue)) in references]
    return sorted(claims, key=lambda claim: (claim.found, claim.id))


def support(claim, reference):
    """Share of the different content words of `claim` that stand in `reference`, 0 … 1; 0 for a claim without any."""
    said = content_words(claim).keys()
    return len(said & content_words(reference).keys()) / len(said) if said else 0.0


def unsupported_numbers(claim, reference):
    """Numbers of `claim` that do not stand in `reference`, each once, as written; those that count a list aside.

    1,000 and 1000 are one number.
    """
    known = {_plain(n) for n in _NUMBER.findall(reference)}
    said = _NUMBER.findall(_LIST_NUMBER.sub("", claim))
    return [n for n in dict.fromkeys(said) if _plain(n) not in known]


def table(claims):
    """The claims as a DataFrame: how much of each the reference supports, numbers it does not know, the question."""
    import pandas as pd

    rows = [{"found": c.found, "other numbers": ", ".join(c.numbers), "question": c.question} for c in claims]
    columns = ["found", "other numbers", "question"]
    return pd.DataFrame(rows, index=[c.id for c in claims], columns=columns).rename_axis("dialogue")


def show(claims, width=100):
    """Show claims in the notebook, each beside its reference; words of the claim that the reference has are bold."""
    from IPython.display import display

    display({"text/html": side_by_side(claims), "text/plain": one_below_the_other(claims, width)}, raw=True)


def side_by_side(claims):
    """The claims as an HTML table. All text is escaped."""
    head = f"<tr>{_HEAD}the model claims</th>{_HEAD}the reference says</th></tr>"
    return f'<table style="max-width:60em;table-layout:fixed">{head}{"".join(map(_rows, claims))}</table>'


def one_below_the_other(claims, width=100):
    """The claims as plain text, lines of at most `width` characters."""
    lines = []
    for c in claims:
        parts = (("QUESTION", c.question), ("MODEL", c.claim), ("REFERENCE", c.reference), ("SCORE", _score(c)))
        lines += [textwrap.fill(f"{who}: {said}", width, subsequent_indent="    ") for who, said in parts]
        lines.append("")
    return "\n".join(lines)


def _claim(dialogue, reference):
    said = dialogue.messages[1]["content"]
    found, numbers = support(said, reference), unsupported_numbers(said, reference)
    return Claim(dialogue.id, dialogue.seed or dialogue.messages[0]["content"], said, reference, found, numbers)


def _rows(claim):
    """Two table rows: question and score over the two texts."""
    asked = f"{html.escape(claim.question)}<br><small>{html.escape(_score(claim))}</small>"
    texts = _cell(_bold(claim.claim, claim.reference)) + _cell(html.escape(claim.reference))
    return f'<tr><th colspan="2" style="text-align:left">{asked}</th></tr><tr>{texts}</tr>'


def _score(claim):
    """The score in words."""
    numbers = f"; numbers it does not have: {', '.join(claim.numbers)}" if claim.numbers else ""
    return f"{claim.found:.0%} of the claim's content words stand in the reference{numbers}"


def _bold(text, reference):
    """`text` as HTML, its content words that stand in the reference in bold."""
    known = content_words(reference)
    pieces = re.split(r"(\w+)", text)
    return "".join(f"<b>{html.escape(p)}</b>" if _in(p, known) else html.escape(p) for p in pieces)


def _in(piece, known):
    """Whether a piece of text is one word, a content word and known."""
    return len(words(piece)) == 1 and any(word in known for word in content_words(piece))


def _cell(content):
    return f'<td style="text-align:left;vertical-align:top;white-space:normal;width:50%">{content}</td>'


def _plain(number):
    """A number without the commas that part its thousands."""
    return re.sub(r",(?=\d{3}\b)", "", number)
