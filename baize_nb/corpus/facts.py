"""What a teacher claimed beside what a source says, and a crude score that ranks the pairs worth reading first.

A low score is a hint, no proof: a right answer may use other words. A high one proves nothing: "not" does not count.
"""

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..text import content_words
from .dialogues import Dialogue
from .splitting import seed_key

if TYPE_CHECKING:
    import pandas as pd


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


def compare(dialogues: Iterable[Dialogue], seeds: Iterable) -> list[Claim]:
    """Compare first answers with the reference of their seed, where it has one; the lowest `found` first."""
    references = {seed_key(Dialogue(s.id, s.text)): s.reference for s in seeds if s.reference}
    claims = []
    for d in dialogues:
        if reference := references.get(seed_key(d)):
            question, said = d.seed or d.messages[0]["content"], d.messages[1]["content"]
            numbers = unsupported_numbers(said, reference)
            claims.append(Claim(d.id, question, said, reference, support(said, reference), numbers))
    return sorted(claims, key=lambda claim: (claim.found, claim.id))


def support(claim: str, reference: str) -> float:
    """Return the share of the different content words of `claim` that stand in `reference`; 0 for none at all."""
    said = content_words(claim).keys()
    return len(said & content_words(reference).keys()) / len(said) if said else 0.0


def unsupported_numbers(claim: str, reference: str) -> list[str]:
    """List numbers of `claim` that do not stand in `reference`, each once; those that count a list aside."""
    claim, reference = (re.sub(r"(?<=\d),(?=\d{3}\b)", "", text) for text in (claim, reference))  # 1,000 is 1000
    claim = re.sub(r"^\s*\d+[.)]\s", "", claim, flags=re.MULTILINE)
    said, known = (re.findall(r"\d+(?:[.,]\d+)*", text) for text in (claim, reference))
    return [number for number in dict.fromkeys(said) if number not in known]


def table(claims: list[Claim]) -> "pd.DataFrame":
    """Tabulate how much of each claim the reference supports, the numbers it does not know, and the question."""
    import pandas as pd

    rows = [(c.id, c.found, ", ".join(c.numbers), c.question) for c in claims]
    return pd.DataFrame(rows, columns=["dialogue", "found", "other numbers", "question"]).set_index("dialogue")


def show(claims: list[Claim]) -> None:
    """Show claims in the notebook, each beside its reference; words of the claim that the reference has are bold."""
    from IPython.display import HTML, display

    cell = '<td style="text-align:left;vertical-align:top;white-space:normal;width:50%">'
    rows = ["<th>the model claims</th><th>the reference says</th>"]
    for c in claims:
        score = f"{c.found:.0%} of the claim's content words stand in the reference"
        if c.numbers:
            score += f"; numbers it does not have: {', '.join(c.numbers)}"
        known = content_words(c.reference).keys()
        claim = ""
        for piece in re.split(r"(\w+)", c.claim):
            bold = content_words(piece).keys() & known
            claim += f"<b>{html.escape(piece)}</b>" if bold else html.escape(piece)
        title = f"{html.escape(c.question)}<br><small>{html.escape(score)}</small>"
        rows.append(f'<th colspan="2" style="text-align:left">{title}</th>')
        rows.append(f"{cell}{claim}</td>{cell}{html.escape(c.reference)}</td>")
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    display(HTML(f'<table style="max-width:60em;table-layout:fixed">{body}</table>'))
