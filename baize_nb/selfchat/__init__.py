"""Self-chat: a chat model talks to itself about a seed, and the dialogue is kept.

    strategies.py  how one dialogue is made: open-header, two-role, transcript
    choosing.py    which of them an endpoint can carry out
    collecting.py  how many are made: concurrent, appended as they finish, resumed after any stop
    outcomes.py    how a seed ends, as a line on disk
    asking.py      one request: retried, paced, paid, logged
    budget.py      the hard cap          pacing.py      requests and tokens per minute
    journal.py     durable lines         requestlog.py  what was asked and answered, for resuming
    costing.py     what it will cost, said before it is spent
    batch.py       the same by OpenAI's Batch API, at half the price; batchresults.py reads what comes back

Built in notebook 02. Source: Baize (arXiv 2304.01196), section 3; the open user header is the idea of Magpie.
"""

from .batch import BatchReport, from_batch, to_batch
from .budget import Budget
from .choosing import choose
from .collecting import Report, collect, retry_failed
from .costing import Estimate, estimate
from .outcomes import failures_path
from .pacing import Limits
from .strategies import PERSONA, Settings

__all__ = [
    "PERSONA",
    "BatchReport",
    "Budget",
    "Estimate",
    "Limits",
    "Report",
    "Settings",
    "choose",
    "collect",
    "estimate",
    "failures_path",
    "from_batch",
    "retry_failed",
    "to_batch",
]
