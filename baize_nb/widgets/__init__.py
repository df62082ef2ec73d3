"""Widgets for a notebook, made of ipywidgets and nothing else: chat, blind comparison, a browser of dialogues."""

from .browser import Browser
from .chat import ChatWidget
from .compare import CompareWidget

__all__ = ["Browser", "ChatWidget", "CompareWidget"]
