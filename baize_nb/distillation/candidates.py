"""The first stage: questions of the training corpus, and several sampled replies to each.

Knows: what may be asked, and how one question is asked several times. Does not know: what a good reply is.
"""

from pathlib import Path
from typing import NamedTuple

from .. import common, evaluation, seeds
from ..corpus import words
from ..seeds import Seed

MADE_BY = "baize_nb.distillation (notebook 07)"


class Candidate(NamedTuple):
    """One sampled reply.

    id     : the question's id and the candidate's number, "quora-0012/3".
    prompt : the question's id. question : its text. number : 0, 1, 2 …, also the random seed it was sampled with.
    text   : the reply. end, tokens : as in evaluation.Reply. model : who wrote it.
    """

    id: str
    prompt: str
    question: str
    number: int
    text: str
    end: str
    tokens: int
    model: str


def questions(dialogues, n, avoid=()):
    """At most n different first questions of a corpus as [Seed], spread evenly over its sources; deterministic.

    avoid : texts that must not be among them, such as evaluation prompts; case and punctuation make no difference.
    """
    taken = {_key(text) for text in avoid}
    found = []
    for dialogue in dialogues:
        text = dialogue.messages[0]["content"]
        if _key(text) not in taken:
            taken.add(_key(text))
            found.append(Seed(dialogue.id, text, dialogue.source, dialogue.license))
    return seeds.sample(found, min(n, len(found)))


def _key(text):
    return " ".join(words(text))


def sample(endpoint, tokenizer, asked, times, path, sources=(), slots=16, **settings):
    """[Candidate]: each question answered `times` times, with the random seeds 0, 1, 2 … Built in notebook 07.

    endpoint : a teacher.Teacher that serves the tuned model. asked : [Seed].
    path     : candidates.jsonl, one durable line per reply, see evaluation.reply: nothing is sampled twice.
    sources  : files for the manifest. slots : replies written side by side. settings : of EndpointSession.
    """
    path, found = Path(path), []
    prompts = [evaluation.Prompt(s.id, "training", [{"role": "user", "content": s.text}]) for s in asked]
    settings = {"temperature": 1.0, "top_p": 0.95, **settings}  # as the paper samples
    for number in range(times):
        sessions = evaluation.sessions(endpoint, tokenizer, slots, seed=number, **settings)
        replies = evaluation.reply(sessions, prompts, path)
        for seed, said in zip(asked, replies, strict=True):
            about = (f"{seed.id}/{number}", seed.id, seed.text, number)
            found.append(Candidate(*about, said.text, said.end, said.tokens, endpoint.model))
    counts = {"questions": len(asked), "candidates": len(found)}
    told = sessions[0].settings() | {"seed": f"0 to {times - 1}"}
    common.write_manifest(path, MADE_BY, sources=sources, settings=told, counts=counts)
    return found
