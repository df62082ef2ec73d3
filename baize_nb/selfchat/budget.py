"""A hard cap on what a corpus may cost, and the prices behind it.

Knows: dollars and tokens, spent and set aside. Does not know: what a request says.
The rule: before a request is sent, its worst case is set aside. If that does not fit any more, it is not sent.
Built in notebook 02.
"""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from ..common import CourseError


class Tokens(NamedTuple):
    """Tokens of one or many requests: read by the model (`prompt`) and written by it (`completion`)."""

    prompt: int = 0
    completion: int = 0

    def plus(self, other):
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def minus(self, other):
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


@dataclass(frozen=True)
class Budget:
    """What one corpus file may cost in all, earlier runs on it included. None stands for no cap.

    usd       : dollars. tokens : prompt and completion tokens together. dialogues : lines in the file.
    price     : (dollars per million prompt tokens, per million completion tokens), for models without a known price.
    """

    usd: float | None = None
    tokens: int | None = None
    dialogues: int | None = None
    price: tuple | None = None


def price_of(teacher, price=None):
    """(dollars per million prompt tokens, per million completion tokens), or None where nobody knows.

    The embedded teacher costs nothing. Prices of known models come from the genai-prices package.
    """
    if price is not None:
        return price
    if teacher.engine is not None:
        return 0.0, 0.0
    from genai_prices import Usage, calc_price

    try:
        usages = (Usage(input_tokens=1000), Usage(output_tokens=1000))
        sides = [calc_price(usage, model_ref=teacher.model).total_price for usage in usages]
    except LookupError:
        return None
    return tuple(float(side) * 1000 for side in sides)


def dollars(tokens, price):
    """What `tokens` cost at `price`; None where the price is unknown."""
    return None if price is None else (tokens.prompt * price[0] + tokens.completion * price[1]) / 1e6


class BudgetSpent(Exception):
    """The next request might go over the budget, so it was not sent. Its text says which cap and how much is left."""


class Purse:
    """The money of one run: what is spent, and what requests under way might still cost.

    budget : a Budget. price : see `price_of`. spent : Tokens of earlier runs on the same file.
    Raises CourseError for a cap in dollars where no price is known.
    """

    def __init__(self, budget, price, spent=Tokens()):  # noqa: B008 (immutable)
        if budget.usd is not None and price is None:
            raise CourseError(
                "This model's price is unknown, so a budget in dollars can't be kept. Give the price from your "
                "provider's page, Budget(usd=…, price=(per million tokens in, per million out)), or cap the "
                "tokens: Budget(tokens=…)."
            )
        self.budget, self.price, self.spent = budget, price, spent
        self.reserved = Tokens()
        self._changed = asyncio.Event()
        self._over = ""

    async def reserve(self, worst):
        """Set the worst case of a request aside; wait if it might fit once requests under way are paid.

        Raises BudgetSpent if it can't fit any more.
        """
        while self._over or not self._fits(worst):
            if self.reserved == Tokens() or self._over:
                # From here on not even a small request leaves: the run is about to stop, and would cut it off.
                self._over = self._over or self._sentence(worst)
                raise BudgetSpent(self._over)
            self._changed.clear()
            await self._changed.wait()
        self.reserved = self.reserved.plus(worst)

    def settle(self, worst, bill):
        """A request is over: its worst case is set free, its bill is spent."""
        self.reserved = self.reserved.minus(worst)
        self.spent = self.spent.plus(bill)
        self._changed.set()

    @property
    def usd(self):
        """Dollars spent, or None where the price is unknown."""
        return dollars(self.spent, self.price)

    def _fits(self, worst):
        after = self.spent.plus(self.reserved).plus(worst)
        if self.budget.tokens is not None and sum(after) > self.budget.tokens:
            return False
        return self.budget.usd is None or dollars(after, self.price) <= self.budget.usd

    def _sentence(self, worst):
        parts = []
        if self.budget.tokens is not None:
            parts.append(f"{sum(self.spent):,} of {self.budget.tokens:,} tokens")
        if self.budget.usd is not None:
            parts.append(f"${self.usd:.4f} of ${self.budget.usd:.4f}")
        return (
            f"Budget: {' and '.join(parts)} spent, and the next request might take {sum(worst):,} tokens. "
            "Everything so far is kept; run again with a larger budget to go on."
        )
