"""Training from a terminal, in one process or several: `python -m baize_nb.finetune --help`.

    python -m baize_nb.finetune                                                       this machine, one process
    accelerate launch --config_file baize_nb/scaling/launch/ddp.yaml -m baize_nb.finetune        two, on GPUs or CPUs

The settings are those of the profile that BAIZE_PROFILE names; batch_size is that of all processes together.
Notebook 08 has the files for several machines, and for sharing the weights.
"""

import argparse
import os
import sys

from .. import common, corpus, finetune, profiles
from ..common import CourseError
from .training import only_the_first_speaks


def main(given: list[str] | None = None) -> int:
    """Train by what stands on the command line; return the exit code."""
    try:
        parser = argparse.ArgumentParser(
            prog="python -m baize_nb.finetune",
            description="Train a LoRA adapter on dialogues, in one process or several.",
        )
        base = profiles.current().base
        parser.add_argument("--train", help="dialogues to train on (.jsonl); default: train.jsonl of this run")
        parser.add_argument("--heldout", help="dialogues to measure on (.jsonl); default: heldout.jsonl of this run")
        parser.add_argument("--base", default=base, help="base model: embedded, a folder or a hub id; %(default)s")
        parser.add_argument("--out", help="folder of the adapter; default: adapter of this run")
        options = parser.parse_args(given)
        with only_the_first_speaks():
            paths = [options.train or common.find("train.jsonl"), options.heldout or common.find("heldout.jsonl")]
        train, heldout = (corpus.read(path) for path in paths)
        finetune.train(train, heldout, base=options.base, out=options.out, sources=paths)
    except CourseError as error:
        rank = os.environ.get("RANK", "0")
        print(error if rank == "0" else f"process {rank}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
