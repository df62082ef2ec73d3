"""How fast a chat is, as ratios taken in one run: `python benchmarks/chat.py`. Four minutes on two cores.

One stream, the shipped LoRA adapter on the embedded model, temperature 1, top-p 0.95, three lengths of history
(tokens of the talk before the question; the preamble comes on top):
ours in transformers and behind llama.cpp, against (a) transformers' generate with a TextIteratorStreamer and (b) a
plain sampling loop with a cache that decodes everything again at each step.
Then 1,024 tokens in one reply: does a token take longer at the end than at the beginning?
And the longest of some stops, in the middle of a reply and while a long prompt is still being read.
"""

import platform
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from baize_nb import common, models, teacher
from baize_nb.chat import ChatSession, EndpointSession
from baize_nb.finetune import encode_prompt, export_gguf
from baize_nb.teacher import Engine

HISTORY = (32, 256, 1024)
TOKENS = 64  # of each reply: no stop token ends one here
REPEATS = 2
NEVER = "\0"  # makes of a marker one that never comes, so that looking for it costs what it always does


def talk(tokenizer, length):
    """Messages that end with a question, with `length` tokens of talk before it."""
    earlier = "The river carries sand and stones down to the sea. " * 200
    ids = tokenizer(earlier).input_ids[: length - 8]
    turns = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": tokenizer.decode(ids)}]
    return turns, "Tell me more about it."


def never_stops(session):
    """`session` without the tokens and the marks that would end its reply early."""
    session.stops = tuple(mark + NEVER for mark in session.stops)
    if isinstance(session, EndpointSession):
        request = session.request

        def endless(messages):
            kind, body = request(messages)
            body["extra_body"] = body["extra_body"] | {"ignore_eos": True}
            return kind, body

        session.request = endless
    else:
        inner = session._model.logits
        session._model.logits = lambda ids: without_special(inner(ids), session.tokenizer)
    return session


def without_special(logits, tokenizer):
    logits = logits.clone()
    logits[tokenizer.all_special_ids] = float("-inf")
    return logits


def ours(session, turns, question):
    """(tokens/s after the first, seconds to the first) of a session that has not read this talk yet."""
    session.clear()
    session.messages = [dict(turn) for turn in turns]
    session.answer(question)
    last = session.last
    return (last.tokens - 1) / (last.seconds - last.first), last.first


def streamer(model, tokenizer, ids):
    """(a) as in `ours`, of transformers' generate."""
    from transformers import TextIteratorStreamer

    stream = TextIteratorStreamer(tokenizer, skip_prompt=True)
    options = {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0, "max_new_tokens": TOKENS}
    options |= {"min_new_tokens": TOKENS, "pad_token_id": tokenizer.pad_token_id, "streamer": stream}
    prompt = torch.tensor([ids])
    options |= {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    began, first = time.perf_counter(), None
    thread = threading.Thread(target=model.generate, kwargs=options)
    thread.start()
    for text in stream:
        if text and first is None:  # the prompt comes first, as an empty text
            first = time.perf_counter() - began
    thread.join()
    return (TOKENS - 1) / (time.perf_counter() - began - first), first


@torch.inference_mode()
def plain_loop(model, tokenizer, ids):
    """(b) as in `ours`, of a loop that keeps its cache and decodes its whole reply at each step."""
    began, first, said, cache, new = time.perf_counter(), None, [], None, ids
    for _ in range(TOKENS):
        out = model(input_ids=torch.tensor([new]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        chances = torch.softmax(without_special(out.logits[0, -1], tokenizer), dim=-1)
        chances, order = chances.sort(descending=True)
        chances[chances.cumsum(dim=-1) - chances > 0.95] = 0
        said.append(int(order[torch.multinomial(chances, 1)]))
        tokenizer.decode(said)
        new, first = said[-1:], first or time.perf_counter() - began
    return (TOKENS - 1) / (time.perf_counter() - began - first), first


@contextmanager
def endpoint(gguf, tokenizer):
    """A session with llama.cpp that serves the file."""
    engine = Engine(gguf, "baize", slots=1)
    try:
        yield never_stops(
            EndpointSession(teacher.Teacher(engine.url, "baize", engine=engine), tokenizer, max_new_tokens=TOKENS)
        )
    finally:
        engine.close()


def compare(model, tokenizer, gguf):
    """The table of speeds, for all lengths of history."""
    session = never_stops(ChatSession(model, tokenizer, max_new_tokens=TOKENS))
    ours(session, *talk(tokenizer, 32))  # the weights are summed at the first question
    with endpoint(models.gguf(), tokenizer) as embedded, endpoint(gguf, tokenizer) as tuned:
        ways = {
            "(a) generate, TextIteratorStreamer": partial(theirs, streamer, model, tokenizer),
            "(b) plain loop": partial(theirs, plain_loop, model, tokenizer),
            "ours, transformers": partial(ours, session),
            "ours, llama.cpp, embedded Q4_1": partial(ours, embedded),
            "ours, llama.cpp, tuned Q8_0": partial(ours, tuned),
        }
        stops = {name: stop_seconds(way, tokenizer) for name, way in (("transformers", session), ("llama.cpp", tuned))}
        for length in HISTORY:
            turns, question = talk(tokenizer, length)
            runs = [{name: way(turns, question) for name, way in ways.items()} for _ in range(REPEATS)]
            table(length, runs)
    for name, seconds in stops.items():
        print(
            f"\nFrom Stop to the end of the reply, {name}: {1000 * max(seconds):.0f} ms at most, {len(seconds)} stops."
        )


def stop_seconds(session, tokenizer, each=3):
    """Seconds from `stop()` to the reply's end: `each` times before the first word, and as often after it."""
    turns, question = talk(tokenizer, 1024)
    return [stopped(session, turns, question, words) for words in (0, 8) for _ in range(each)]


def stopped(session, turns, question, words):
    """Seconds that one stop takes. words: pieces that come before it; 0 stops while the prompt is being read."""
    session.clear()
    session.messages = [dict(turn) for turn in turns]
    asked, reply = [], session.stream(question)

    def stop():
        asked.append(time.perf_counter())
        session.stop()

    for _ in range(words):
        next(reply)
    if not words:
        threading.Timer(0.03, stop).start()
    else:
        stop()
    for _ in reply:
        pass
    return time.perf_counter() - asked[0]


def theirs(way, model, tokenizer, turns, question):
    """(a) or (b) with the same prompt as ours."""
    return way(model, tokenizer, encode_prompt([*turns, {"role": "user", "content": question}], tokenizer))


def table(length, runs):
    """One line for each way: the quicker of its runs."""
    speed = {name: max(run[name][0] for run in runs) for name in runs[0]}
    a, b = list(speed.values())[:2]
    for name, value in speed.items():
        first = min(run[name][1] for run in runs)
        print(f"| {length} | {name} | {value:.1f} | {value / a:.2f} | {value / b:.2f} | {first:.2f} |", flush=True)


def growth(model, tokenizer, tokens=1024):
    """Does a token take longer late in a reply? Beside it, the bare model over the same cache: what attention costs."""
    session = never_stops(ChatSession(model, tokenizer, max_new_tokens=tokens))
    moments = [time.perf_counter()]
    read = session._model.logits

    def noted(ids):
        logits = read(ids)
        moments.append(time.perf_counter())
        return logits

    session._model.logits = noted
    session.answer("Tell me everything about rivers.")
    steps = [later - sooner for sooner, later in pairwise(moments)][1:]
    early, late = (median(steps[end - 64 : end]) for end in (256, len(steps)))
    bare = [forward(session._model.model, length + 60) for length in (256, 1024)]
    print(
        f"\nOne reply of {tokens} tokens: a token takes {1000 * early:.0f} ms around the 256th and "
        f"{1000 * late:.0f} ms at the end, {late / early:.2f} times; the forward pass alone, with transformers' "
        f"own cache: {1000 * bare[0]:.0f} and {1000 * bare[1]:.0f} ms, {bare[1] / bare[0]:.2f} times."
    )


@torch.inference_mode()
def forward(model, length):
    """Seconds of one token after `length` others."""
    cache, times = model(input_ids=torch.full((1, length), 300), use_cache=True, logits_to_keep=1).past_key_values, []
    for _ in range(24):
        began = time.perf_counter()
        model(input_ids=torch.tensor([[300]]), past_key_values=cache, use_cache=True)
        times.append(time.perf_counter() - began)
    return median(times)


def main():
    model, tokenizer = models.load(adapter=common.DATA / "adapter")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {model.dtype}, {TOKENS} tokens a reply.\n")
    print("| history | engine | tokens/s | × (a) | × (b) | first token, s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        compare(model, tokenizer, export_gguf(common.DATA / "adapter", out=Path(folder) / "baize.gguf"))
    growth(model, tokenizer)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
