"""Two processes on CPUs share each batch and end with the losses of one; only the first one speaks and writes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from smalltalk import DIALOGUES, TINY, program

from baize_nb import corpus, finetune
from baize_nb.finetune import saving
from baize_nb.finetune.__main__ import main

# No dropout: each process would draw its own. Three dialogues in steps of four: one process gets a blank row.
PROFILE = replace(TINY, batch_size=4, micro_batch_size=1, epochs=2, eval_steps=2)
SECONDS = 120  # of a machine that is busy; a run takes a fifth of it, one that hangs takes for ever


@pytest.fixture
def files(tmp_path):
    """Paths of train.jsonl and heldout.jsonl."""
    corpus.write(DIALOGUES[:3], tmp_path / "train.jsonl")
    corpus.write(DIALOGUES[2:], tmp_path / "heldout.jsonl")
    return [str(tmp_path / name) for name in ("train.jsonl", "heldout.jsonl")]


def launch(folder, arguments):
    """What two processes of `python -m baize_nb.finetune` print; a hang fails. torch's own launcher starts them."""
    start = folder / "start.py"
    start.write_text(program(__name__))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*launcher, str(start), *arguments], capture_output=True, text=True, timeout=SECONDS, env=environment
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="torch's launcher needs libuv, which its Windows builds lack")
def test_two_processes_end_with_the_losses_of_one(files, tmp_path):
    train, heldout = files
    out = tmp_path / "two"
    printed = launch(tmp_path, ["--train", train, "--heldout", heldout, "--out", str(out)])
    one = finetune.train(DIALOGUES[:3], DIALOGUES[2:], out=tmp_path / "one", profile=PROFILE)
    two = json.loads((tmp_path / "two.manifest.json").read_text())["run"]

    assert two["steps"] == one.steps == 2
    assert (two["processes"], one.processes) == (2, 1)
    for name in ("history", "heldout"):
        found, expected = two[name], getattr(one, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-4), name
    assert one.loss_after < one.loss_before
    assert printed.count("held-out loss") == len(one.heldout) + 1 and printed.count("Adapter in") == 1
    assert not (tmp_path / "two.checkpoints").exists()
    from safetensors.torch import load_file

    expected = load_file(one.adapter / saving.WEIGHTS)
    # Adam makes a step of a gradient's sign: where a gradient is nothing but rounding, it may go either way.
    found = load_file(out / saving.WEIGHTS)
    apart = sum(int((tensor - expected[name]).abs().gt(1e-4).sum()) for name, tensor in found.items())
    assert found.keys() == expected.keys() and apart < 0.005 * sum(tensor.numel() for tensor in found.values())


def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys):
    assert main(["--train", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
