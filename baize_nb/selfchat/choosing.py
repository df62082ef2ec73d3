"""Which strategy an endpoint can carry out: asked, not guessed.

Knows: how to find out whether an endpoint continues raw text, and in which chat format its model reads.
Does not know: how dialogues are made. Built in notebook 02.
"""

import re
from urllib.parse import urlsplit

import openai

from .. import teacher as teachers
from ..chatformat import ChatFormat
from ..common import CourseError
from .strategies import STRATEGIES


def choose(strategy, teacher):
    """Name of the strategy to use. "auto": open-header where the endpoint can carry it out, else transcript.

    For "auto" and "open-header" an endpoint that we know nothing about is asked once (one token), see `probe`.
    Raises CourseError for an unknown name, and for open-header on an endpoint that only chats.
    """
    if strategy not in ("auto", *STRATEGIES):
        raise CourseError(f"There is no strategy {strategy!r}. Choose one of: auto, {', '.join(STRATEGIES)}.")
    if strategy in ("auto", "open-header") and teacher.open_header is None:
        probe(teacher)
    if strategy == "auto":
        return "open-header" if teacher.open_header else "transcript"
    if strategy == "open-header" and not teacher.open_header:
        raise CourseError(f"{teacher.model} only chats; open-header needs raw prompts. Use 'two-role' or 'transcript'.")
    return strategy


def probe(teacher):
    """Find out whether `teacher` can do open-header, and note it there (`open_header`, `chat_format`).

    It can if it continues a raw prompt and shows us its chat format (llama.cpp's server does, at /apply-template).
    Where either is missing it counts as an endpoint that only chats; a wrong key or address shows at the first request.
    """
    teacher.open_header = False
    if urlsplit(teacher.base_url).hostname == urlsplit(teachers.OPENAI_URL).hostname:
        return  # its chat models do not continue raw text, and asking is not free
    with openai.OpenAI(
        base_url=teacher.base_url, api_key=teacher.api_key or "none", max_retries=0, timeout=60
    ) as client:
        chat_format = _chat_format(client)
        if chat_format and _continues(client, teacher.model):
            teacher.open_header, teacher.chat_format = True, chat_format


# Contents that no template writes by itself, to see what the template puts around them.
_PROBES = {"system": "qs7s", "user": "qu7u", "assistant": "qa7a", "next": "qn7n"}


def _chat_format(client):
    """The ChatFormat of the endpoint's model, or None where it does not say."""
    talk = [{"role": role, "content": _PROBES[role]} for role in ("user", "assistant")]
    talk.append({"role": "user", "content": _PROBES["next"]})
    pieces = _template(client, [{"role": "system", "content": _PROBES["system"]}, *talk])
    if len(pieces) == 5:
        return ChatFormat(*pieces[:4])
    pieces = _template(client, talk)  # some templates have no place for a persona
    return ChatFormat(None, *pieces[:3]) if len(pieces) == 4 else None


def _template(client, messages):
    """What the endpoint's template writes before, between and after the contents of `messages`; [] if unknown."""
    # The address lies beside /v1, not under it.
    url = str(client.base_url).rstrip("/").removesuffix("/v1") + "/apply-template"
    try:
        text = client.post(url, body={"messages": messages}, cast_to=object)["prompt"]
        return re.split("|".join(_PROBES.values()), text)
    except (openai.APIError, KeyError, TypeError, ValueError):
        return []


def _continues(client, model):
    """Whether the endpoint continues a raw prompt."""
    try:
        return bool(client.completions.create(model=model, prompt="One, two,", max_tokens=1).choices)
    except (openai.APIError, AttributeError, TypeError, ValueError):
        return False
