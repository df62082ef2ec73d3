"""The faces of chat sessions in a notebook, made of ipywidgets and nothing else.

    chatting.py   ChatWidget: talk with one model, or with each of several
    comparing.py  CompareWidget: one question, two models, a blind vote
    votes.py      the votes: cast, kept in a file, counted
    face.py       what both have: a line to type in, Send, Stop, a status line
    dials.py      sliders for temperature and the like
    worker.py     threads, interrupts, repainting
    bubbles.py    messages as HTML that can do no harm

Built in notebook 05.
"""

from .chatting import ChatWidget
from .comparing import CompareWidget

__all__ = ["ChatWidget", "CompareWidget"]
