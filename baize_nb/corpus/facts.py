"""What a teacher claimed beside what a source says, and a crude score that ranks the pairs worth reading first.

A low score is a hint, no proof: a right answer may use other words, and a reference is short. A high score proves
nothing either: "not" is no content word, so a claim and its opposite score the same.
"""

import html
import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..text import content_words
from .dialogue import Dialogue
from .splitting import seed_key

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
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

    @property
    def score(self) -> str:
        """What was found, in words."""
        numbers = f"; numbers it does not have: {', '.join(self.numbers)}" if self.numbers else ""
        return f"{self.found:.0%} of the claim's content words stand in the reference{numbers}"


def compare(dialogues: Iterable[Dialogue], seeds: Iterable) -> list[Claim]:
    """Compare first answers with the reference of their seed; the lowest `found` first.

    dialogues : matched with `seeds` by the seed's text; only the first answer is looked at, since the reference
                answers the seed. Dialogues without a reference are left out.
    """
    references = {seed_key(Dialogue(s.id, s.text)): s.reference for s in seeds if s.reference}
    claims = []
    for dialogue in dialogues:
        if reference := references.get(seed_key(dialogue)):
            said = dialogue.messages[1]["content"]
            found, numbers = support(said, reference), unsupported_numbers(said, reference)
            question = dialogue.seed or dialogue.messages[0]["content"]
            claims.append(Claim(dialogue.id, question, said, reference, found, numbers))
    return sorted(claims, key=lambda claim: (claim.found, claim.id))


def support(claim: str, reference: str) -> float:
    """Return the share of the different content words of `claim` that stand in `reference`; 0 for none at all."""
    said = content_words(claim).keys()
    return len(said & content_words(reference).keys()) / len(said) if said else 0.0


def unsupported_numbers(claim: str, reference: str) -> list[str]:
    """List numbers of `claim` that do not stand in `reference`, each once, as written; those that count a list aside.

    1,000 and 1000 are one number.
    """

    def plain(number):
        return re.sub(r",(?=\d{3}\b)", "", number)

    known = {plain(n) for n in _NUMBER.findall(reference)}
    said = _NUMBER.findall(_LIST_NUMBER.sub("", claim))
    return [n for n in dict.fromkeys(said) if plain(n) not in known]


def table(claims: list[Claim]) -> "pd.DataFrame":
    """Tabulate how much of each claim the reference supports, the numbers it does not know, and the question."""
    import pandas as pd

    rows = [{"found": c.found, "other numbers": ", ".join(c.numbers), "question": c.question} for c in claims]
    columns = ["found", "other numbers", "question"]
    return pd.DataFrame(rows, index=[c.id for c in claims], columns=columns).rename_axis("dialogue")


def show(claims: list[Claim], width: int = 100) -> None:
    """Show claims in the notebook, each beside its reference; words of the claim that the reference has are bold."""
    from IPython.display import display

    display({"text/html": side_by_side(claims), "text/plain": one_below_the_other(claims, width)}, raw=True)


def side_by_side(claims: list[Claim]) -> str:
    """Write the claims as an HTML table. All text is escaped."""
    left = 'style="text-align:left'
    rows = [f'<tr><th {left}">the model claims</th><th {left}">the reference says</th></tr>']
    for c in claims:
        known = content_words(c.reference)
        bold = (  # a piece that is one content word, and known
            f"<b>{html.escape(piece)}</b>" if any(w in known for w in content_words(piece)) else html.escape(piece)
            for piece in re.split(r"(\w+)", c.claim)
        )
        asked = f"{html.escape(c.question)}<br><small>{html.escape(c.score)}</small>"
        cell = f'<td {left};vertical-align:top;white-space:normal;width:50%">'
        texts = f"{cell}{''.join(bold)}</td>{cell}{html.escape(c.reference)}</td>"
        rows.append(f'<tr><th colspan="2" {left}">{asked}</th></tr><tr>{texts}</tr>')
    return f'<table style="max-width:60em;table-layout:fixed">{"".join(rows)}</table>'


def one_below_the_other(claims: list[Claim], width: int = 100) -> str:
    """Write the claims as plain text, lines of at most `width` characters."""
    lines = []
    for c in claims:
        parts = (("QUESTION", c.question), ("MODEL", c.claim), ("REFERENCE", c.reference), ("SCORE", c.score))
        lines += [textwrap.fill(f"{who}: {said}", width, subsequent_indent="    ") for who, said in parts]
        lines.append("")
    return "\n".join(lines)
