"""How fast training is, as ratios taken in one run: `python benchmarks/finetune.py`. About ten minutes on two cores.

The same model, dialogues, LoRA settings and threads for all, each job in a process of its own; tokens are real ones,
without padding, and the clock runs from the first step to the last, without loading, checkpoints or held-out data.

(a) dialogues of the shipped corpus: this package against Baize's recipe (filled up to 512 tokens, the loss on all)
(b) dialogues of about 465 tokens: this package against TRL's SFTTrainer, at each size of micro-batch
TRL is installed into an environment of its own in the user's cache, on top of the packages that run here.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import LoraConfig
from transformers import Trainer, TrainerCallback, TrainingArguments

from baize_nb import common, corpus, finetune, models, profiles
from baize_nb.corpus import Dialogue
from baize_nb.finetune import training
from baize_nb.finetune.fast_lora import use_fast_lora

LIMIT, BATCH = 512, 8
SAME = {"save_strategy": "no", "eval_strategy": "no", "logging_steps": 1}
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def rows(kind, number, tokenizer):
    """Tokens and labels of `number` dialogues: "short" as they were shipped; "long": two joined, near 465 tokens."""
    found = corpus.read(common.DATA / "corpus/train.jsonl")
    if kind == "short":
        return finetune.encode_all(found[:number], tokenizer, LIMIT).rows
    joined = [
        Dialogue(id=a.id, messages=a.messages + b.messages) for a, b in zip(found[::2], found[1::2], strict=False)
    ]
    whole = [row for row in finetune.encode_all(joined, tokenizer, 10 * LIMIT).rows if len(row["input_ids"]) <= LIMIT]
    return sorted(whole, key=lambda row: abs(len(row["input_ids"]) - 465))[:number]


class Clock(TrainerCallback):
    """Seconds from the first step to the last, and the losses."""

    def __init__(self):
        self.first, self.losses = None, []

    def on_step_begin(self, args, state, control, **kwargs):
        self.first = self.first or time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.last = time.perf_counter()

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.losses += [round(logs["loss"], 3)] if "loss" in logs else []


def job(way, kind, number, micro):
    """Train one epoch in this process; print what it took as JSON."""
    profile = replace(profiles.get("laptop"), batch_size=BATCH, micro_batch_size=micro, warmup_steps=0)
    model, tokenizer = models.load(dtype="float32")
    data = rows(kind, number, tokenizer)
    tokens = sum(len(row["input_ids"]) for row in data)
    with tempfile.TemporaryDirectory() as folder:
        if way == "ours":
            speed, losses = ours(model, tokenizer, data, profile)
        else:
            clock, trainer = Clock(), {"baize": baize, "trl": trl}[way](model, tokenizer, data, profile, folder)
            trainer.add_callback(clock)
            trainer.train()
            speed, losses = tokens / (clock.last - clock.first), clock.losses
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"speed": speed, "peak": peak, "tokens": tokens, "losses": losses}))


def ours(model, tokenizer, data, profile):
    """This package, as finetune.train does it; its own clock runs from the first step to the last."""
    clock = []  # (looks at the one held-out row so far, time): only the last look lies outside of the clock
    model = use_fast_lora(finetune.add_lora(model, profile))
    profile = replace(profile, eval_steps=10**6)
    run = training.fit(
        model,
        data,
        data[:1],
        tokenizer.eos_token_id,
        profile,
        Accelerator(),
        on_step=lambda run: clock.append((len(run.heldout), time.perf_counter())),
    )
    once = [at for looks, at in clock if looks == 1]
    return run.tokens / (once[-1] - once[0]), [round(loss, 3) for _, loss in run.history]


def baize(model, tokenizer, data, profile, folder):
    """Baize's recipe: every dialogue filled up to 512 tokens, every token learned, transformers' own loss."""

    def filled(batch):
        full = {"input_ids": [tokenizer.eos_token_id] * LIMIT, "labels": [-100] * LIMIT}
        batch = finetune.collate(
            [*({**row, "labels": row["input_ids"]} for row in batch), full], tokenizer.eos_token_id
        )
        return {name: tensor[:-1] for name, tensor in batch.items()}

    return Trainer(
        model=finetune.add_lora(model, profile),
        args=TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=profile.micro_batch_size,
            gradient_accumulation_steps=BATCH // profile.micro_batch_size,
            learning_rate=profile.learning_rate,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            report_to="none",
            **SAME,
        ),
        train_dataset=data,
        data_collator=filled,
    )


def trl(model, tokenizer, data, profile, folder):
    """TRL's SFTTrainer, given the same tokens and labels, with what makes it fast on a CPU.

    That is float32, like lengths together, and no gradient checkpointing; its loss skips what is not learned.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=folder,
            max_length=LIMIT,
            num_train_epochs=1,
            per_device_train_batch_size=profile.micro_batch_size,
            gradient_accumulation_steps=profile.batch_size // profile.micro_batch_size,
            learning_rate=profile.learning_rate,
            train_sampling_strategy="group_by_length",
            gradient_checkpointing=False,
            bf16=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            report_to="none",
            disable_tqdm=True,
            **SAME,
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=profile.rank,
            lora_alpha=profile.alpha,
            lora_dropout=profile.dropout,
            target_modules=list(profile.targets),
            task_type="CAUSAL_LM",
        ),
    )


def trl_python():
    """A Python that has TRL: an environment in the user's cache that sees the packages of the running one."""
    home = models.cache() / "benchmark-trl"
    python = next(iter(home.glob("bin/python")), None)
    if python is None:
        venv.create(home, with_pip=False)
        site = next(home.glob("lib/python*/site-packages"))
        (site / "running.pth").write_text(f"import site; site.addsitedir({str(Path(torch.__file__).parents[1])!r})\n")
        python = home / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, "trl"], check=True)
    return python


def measured(way, kind, number, micro, python=sys.executable):
    """What `job` prints, of a fresh process."""
    command = [python, __file__, "--job", way, kind, str(number), str(micro)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr[-3000:])
    return json.loads(run.stdout.splitlines()[-1])


def row(what, micro, found, against=None):
    """One line of the table. against: what this package reached with the same dialogues."""
    ratio = "" if against is None else f"{against['speed'] / found['speed']:.2f} ×"
    print(f"| {what} | {micro} | {found['speed']:.0f} | {found['peak']:.2f} | {ratio} |", flush=True)


def main(short, long, micros):
    """Run all jobs; the table names how many times faster this package is, in profile laptop, than each line."""
    best = profiles.get("laptop").micro_batch_size
    others = [micro for micro in micros if micro != best]
    print("| dialogues, way | micro-batch | tokens/s | peak GiB | this package is |\n|---|--:|--:|--:|--:|", flush=True)
    for kind, number in (("short", short), ("long", long)):
        if not number:
            continue
        mine = measured("ours", kind, number, best)
        average = f"{number} of {mine['tokens'] / number:.0f} tokens"
        row(f"{average}: this package", best, mine)
        if kind == "short":
            row(f"{average}: Baize's recipe", best, measured("baize", kind, number, best), mine)
            continue
        python = trl_python()
        for micro in micros:
            row(f"{average}: TRL's SFTTrainer", micro, measured("trl", kind, number, micro, python), mine)
        for micro in others:
            row(f"{average}: this package", micro, measured("ours", kind, number, micro), mine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Training speed, side by side.")
    parser.add_argument("--short", type=int, default=16, help="shipped dialogues, 0 for none; %(default)s")
    parser.add_argument("--long", type=int, default=16, help="dialogues of about 465 tokens, 0 for none; %(default)s")
    parser.add_argument("--micro", type=int, nargs="+", default=[1, 2, 4], help="sizes of micro-batch; %(default)s")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        way, kind, number, micro = given.job
        job(way, kind, int(number), int(micro))
    else:
        main(given.short, given.long, given.micro)
