"""kill -9 in the middle of a training run: the next start goes on, and ends with the bits of an unbroken run."""

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from smalltalk import DIALOGUES, TINY, program

from baize_nb import corpus
from baize_nb.finetune import saving

# Dropout on: the random numbers, too, must go on where they stopped. Twelve steps leave room for kills between them.
PROFILE = replace(TINY, epochs=6, dropout=0.1, eval_steps=6)
SECONDS = 120  # of a machine that is busy; a run takes a tenth of it


def start(folder, out):
    """A process that trains into `out`."""
    arguments = ["--train", folder / "train.jsonl", "--heldout", folder / "heldout.jsonl", "--out", out]
    return subprocess.Popen(
        [sys.executable, "-c", program(__name__), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As many threads in each: how busy the machine is must not decide the last bits.
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
    )


def finish(process):
    """What it printed until it ended by itself."""
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said[-3000:]
    return said


def kill(process, checkpoints, delay):
    """kill -9, `delay` seconds after the process has begun to write a checkpoint of its own."""
    former, end = set(checkpoints.glob("*")), time.monotonic() + SECONDS
    while not set(checkpoints.glob("checkpoint-*")) - former:
        assert process.poll() is None and time.monotonic() < end, "it ended, or wrote no checkpoint"
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode != 0, "it had ended before"


def test_a_killed_run_ends_with_the_same_bits_as_an_unbroken_one(tmp_path):
    corpus.write(DIALOGUES, tmp_path / "train.jsonl")
    corpus.write(DIALOGUES[:2], tmp_path / "heldout.jsonl")
    whole, broken = tmp_path / "whole/adapter", tmp_path / "broken/adapter"
    finish(start(tmp_path, whole))
    checkpoints, dice = broken.with_name("adapter.checkpoints"), random.Random(0)
    for _ in range(2):
        kill(start(tmp_path, broken), checkpoints, dice.uniform(0, 0.3))
        assert not (broken / saving.WEIGHTS).exists()
    said = finish(start(tmp_path, broken))
    assert "held-out loss" in said and (broken / saving.WEIGHTS).read_bytes() == (whole / saving.WEIGHTS).read_bytes()
    assert not checkpoints.exists()
