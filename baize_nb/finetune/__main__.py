"""Training from a terminal, by the settings of BAIZE_PROFILE: `python -m baize_nb.finetune --help`.

In several processes: `accelerate launch --config_file baize_nb/scaling/launch/ddp.yaml -m baize_nb.finetune`
"""

import argparse
import contextlib
import io
import os
import sys

from .. import common, corpus, finetune, profiles


def main(given: list[str] | None = None) -> int:
    """Train by what stands on the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m baize_nb.finetune", description="Train a LoRA adapter.")
    parser.add_argument("--train", help="dialogues to train on (.jsonl); default: train.jsonl of this run")
    parser.add_argument("--heldout", help="dialogues to measure on (.jsonl); default: heldout.jsonl of this run")
    parser.add_argument("--base", help="base model: embedded, a folder or a hub id; default: the profile's")
    parser.add_argument("--out", help="folder of the adapter; default: adapter of this run")
    options = parser.parse_args(given)
    first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks: they would all say the same
    try:
        with contextlib.redirect_stdout(sys.stdout if first else io.StringIO()):
            paths = [options.train or common.find("train.jsonl"), options.heldout or common.find("heldout.jsonl")]
            train, heldout = (corpus.read(path) for path in paths)
            finetune.train(train, heldout, options.base or profiles.current().base, options.out, sources=paths)
    except common.CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
