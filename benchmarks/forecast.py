"""How good the doctor's forecast is: `python benchmarks/forecast.py`, on a processor, about six minutes on two cores.

Each setting is predicted, then trained in a process of its own on dialogues of the shipped corpus. The table gives what
was taken as a share of what was predicted: minutes of training with its looks at the held-out loss, and peak memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from baize_nb import common, corpus, finetune, profiles
from baize_nb.finetune import memory

# name: (dialogues, what differs from profile laptop)
SETTINGS = {
    "profile laptop": (132, {}),
    "the loss on every token": (48, {"loss_on": "all"}),
    "micro-batch 1, rank 32": (48, {"micro_batch_size": 1, "rank": 32}),
    "two epochs, cut at 192 tokens": (48, {"epochs": 2, "max_length": 192}),
    "micro-batch 4": (48, {"micro_batch_size": 4}),
}


def given(name):
    """(profile, dialogues to train on, held-out dialogues) of a setting; float32 wherever it runs."""
    number, changes = SETTINGS[name]
    profile = replace(profiles.get("laptop"), dtype="float32", **changes)
    train, heldout = (corpus.read(common.DATA / f"corpus/{part}.jsonl") for part in ("train", "heldout"))
    return profile, train[:number], heldout[: profile.heldout]


def job(name):
    """Train in this process; print seconds and peak bytes as JSON."""
    profile, train, heldout = given(name)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        run = finetune.train(train, heldout, out=Path(folder) / "adapter", profile=profile)
    status = Path("/proc/self/status").read_text()  # Linux; on it getrusage's number begins with the parent's
    print(json.dumps({"seconds": run.seconds, "bytes": 1024 * int(status.split("VmHWM:")[1].split()[0])}))


def main():
    print("| setting | dialogues | seconds: predicted | taken | ratio | GB: predicted | taken | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for name, (number, _) in SETTINGS.items():
        profile, train, _ = given(name)
        speed = memory.matmul_speed()  # just before: a machine's speed wanders
        needs = finetune.needs(profile, train, speed)
        run = subprocess.run([sys.executable, __file__, "--job", name], capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(run.stderr[-3000:])
        taken = json.loads(run.stdout.splitlines()[-1])
        seconds, peak = taken["seconds"], taken["bytes"]
        print(
            f"| {name} | {number} | {needs.minutes * 60:.0f} | {seconds:.0f} | {seconds / needs.minutes / 60:.2f} "
            f"| {needs.memory / 1e9:.2f} | {peak / 1e9:.2f} | {peak / needs.memory:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", choices=SETTINGS, help=argparse.SUPPRESS)
    chosen = parser.parse_args().job
    job(chosen) if chosen else main()
