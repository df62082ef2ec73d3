"""A chat with a model: what it reads, where a reply ends, what may be shown of it, what is remembered.

conversation.py  `Conversation`: the face that all sessions share; streaming, regenerate, edit, undo, stop
history.py       which turns go into a prompt (`window`); a conversation as a JSONL file
screen.py        role markers: where a reply ends (`STOPS`, `release`)
prompts.py       turns → token ids in Baize's format, exactly as in training
local.py         `ChatSession`: a model of transformers in this process
endpoint.py      `EndpointSession`: a model behind an OpenAI-compatible endpoint
together.py      `side_by_side`: several sessions, many questions
baize.py         `load_baize`: the released Baize models, where a model hub is at hand
"""

from .baize import load_baize
from .conversation import Conversation, Reply
from .endpoint import EndpointSession
from .history import window
from .local import ChatSession
from .screen import STOPS, release
from .together import side_by_side

__all__ = [
    "STOPS",
    "ChatSession",
    "Conversation",
    "EndpointSession",
    "Reply",
    "load_baize",
    "release",
    "side_by_side",
    "window",
]
