"""Replies to prompts, side by side, kept in a file and never asked for twice.

Knows: prompts and chat sessions. Does not know: which model is better. Built in notebook 06.

A line of the file: `key` (hash of prompt and settings), `id` (of the prompt), `model`, `question`, `text`, `end`,
`tokens`, `settings`. Lines of several models and settings may stand in one file.
"""

import contextlib
import hashlib
import json
from typing import NamedTuple

from ..chat import EndpointSession, side_by_side
from ..common import Journal


class Reply(NamedTuple):
    """A reply. id: of its prompt; tokens: sampled.

    end : "stop" (the model closed its turn by the stop token), "marker" (it began to write the other's turn; the text
          is cut before that), "limit" (max_new_tokens ran out).
    """

    id: str
    text: str
    end: str
    tokens: int


def sessions(teacher, tokenizer=None, n=16, **settings):
    """`n` EndpointSessions of one model, to be asked side by side. tokenizer: given, they speak the Baize format.

    settings : of EndpointSession. Sampled at temperature 0.7 unless they say otherwise, without a penalty on
    repetition: it would hide what is to be measured.
    """
    return [EndpointSession(teacher, tokenizer, **{"temperature": 0.7, **settings}) for _ in range(n)]


def reply(sessions, prompts, path=None):
    """[Reply] to each prompt, in their order; each prompt is a conversation of its own.

    sessions : sessions of one model with the same settings; they answer side by side. Of earlier turns in a prompt
               they read what stands there.
    path     : JSONL, one durable line per reply. What stands there for the same prompt and settings is not asked again;
               the model's name is one of the settings, and `serve` gives each model a name that tells its weights.
    """
    keys = [_key(sessions[0], prompt) for prompt in prompts]
    with Journal(path) if path else contextlib.nullcontext() as journal:
        known = {line["key"]: _reply(line) for line in journal.records()} if journal else {}
        todo = list({key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}.items())
        with contextlib.closing(side_by_side(sessions, [prompt for _, prompt in todo], _ask)) as answers:
            for place, found in answers:
                key, prompt = todo[place]
                known[key] = found
                if journal:
                    journal.append(_line(key, found, prompt, sessions[0]))
    return [known[key]._replace(id=prompt.id) for key, prompt in zip(keys, prompts, strict=True)]


def _ask(session, prompt):
    """One Reply."""
    session.clear()
    session.messages = [dict(message) for message in prompt.messages[:-1]]
    text = session.answer(prompt.question)
    return Reply(prompt.id, text, session.last.end, session.last.tokens)


def _key(session, prompt):
    """Sixteen hex digits that stand for all that decides a reply."""
    form = "baize" if session.stops else "chat"
    told = json.dumps([form, session.settings(), prompt.messages], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _line(key, found, prompt, session):
    settings = session.settings()
    return {
        "key": key,
        "model": settings["model"],
        "question": prompt.question,
        **found._asdict(),
        "settings": settings,
    }


def _reply(line):
    return Reply(**{name: line[name] for name in Reply._fields})
