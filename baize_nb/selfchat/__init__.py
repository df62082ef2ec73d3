"""Self-chat: a chat model talks to itself about a seed, and the dialogue is kept.

    strategies.py  how one dialogue is made: open-header and transcript
    collecting.py  how many are: concurrent, appended as they finish, resumed after any stop
    journal.py     the file they go to: one durable line each
    costing.py     what it will cost, said before it is spent

Built in notebook 02. Source: Baize (arXiv 2304.01196), section 3; the open user header is the idea of Magpie.
"""

from .collecting import Report, collect
from .costing import Estimate, estimate
from .strategies import PERSONA, Settings, choose, open_header, transcript_request

__all__ = [
    "PERSONA",
    "Estimate",
    "Report",
    "Settings",
    "choose",
    "collect",
    "estimate",
    "open_header",
    "transcript_request",
]
