"""What the stop labels teach: `python benchmarks/stops.py`, three trainings in profile laptop; half an hour.

The shipped dialogues are trained on with a learned stop after every answer; without one after those that were
trimmed, as `finetune.train` does it; and with none at all, as a mask by token id would have it. Of each adapter:

- held-out loss, of the assistant's tokens but the stops of trimmed answers, in nats per token
- mean probability of the stop token on the held-out dialogues: after the last word of an answer that was not trimmed,
  after its other words, and before its first
- replies to the 60 prompts of notebook 06 that the model closed by itself; how many of these end at a list number
"""

import asyncio
import contextlib
import re
import sys

import torch

from baize_nb import common, corpus, evaluation, finetune, models, profiles

NUMBER = re.compile(r"(?:^|\n)\s*\d+[.)]\s*$")


def marked(dialogues, kind):
    """The dialogues with other marks: which stops are learned."""
    found = []
    for d in dialogues:
        messages = [{"role": m["role"], "content": m["content"]} for m in d.messages]
        for new, old in zip(messages, d.messages, strict=True):
            if kind == "none" or (kind == "untrimmed" and old.get("trimmed")):
                new["trimmed"] = True
        found.append(corpus.Dialogue(id=d.id, messages=messages))
    return found


def stop_chances(model, rows, stop):
    """Mean probability of the stop token by place, over rows of `encode`."""
    found = {"ends": [], "middle": [], "first": []}
    for row in rows:
        labels = row["labels"]
        with torch.no_grad():
            chances = model(torch.tensor([row["input_ids"]])).logits[0].float().softmax(-1)[:, stop]
        for i in range(1, len(labels)):
            if labels[i] != finetune.IGNORE:
                first = labels[i - 1] == finetune.IGNORE
                found["ends" if labels[i] == stop else "first" if first else "middle"].append(chances[i - 1].item())
    return {place: sum(chances) / len(chances) for place, chances in found.items()}


def main():
    """Train, measure, and print a table."""
    profile, folder = profiles.get("laptop"), common.runs() / "stops"
    train, heldout = (corpus.read(common.DATA / f"corpus/{name}.jsonl") for name in ("train", "heldout"))
    prompts = evaluation.prompts(60)
    print("| stops learned | held-out loss | at ends | in the middle | first | stopped | at a number |")
    print("|---|--:|--:|--:|--:|--:|--:|", flush=True)
    for learned in ("not tuned", "all", "untrimmed", "none"):
        adapter = None
        with contextlib.redirect_stdout(sys.stderr):
            if learned != "not tuned":
                run = finetune.train(marked(train, learned), heldout, out=folder / learned, profile=profile)
                adapter = run.adapter
            model, tokenizer = models.load(adapter=adapter)
            loss = finetune.heldout_loss(model, heldout, tokenizer, profile.max_length)
            rows = finetune.encode_all(heldout, tokenizer, profile.max_length).rows
            chances = stop_chances(model, rows, tokenizer.eos_token_id)
            with evaluation.serve(f"stops-{learned.replace(' ', '-')}", adapter) as served:
                replies = asyncio.run(evaluation.reply(served, prompts, folder / "replies.jsonl", tokenizer))
        stopped = [said for said in replies if said.end == "stop"]
        numbered = sum(bool(NUMBER.search(said.text)) for said in stopped)
        places = " | ".join(f"{chance:.1%}" for chance in chances.values())
        print(f"| {learned} | {loss:.3f} | {places} | {len(stopped)} | {numbered} |", flush=True)


if __name__ == "__main__":
    main()
