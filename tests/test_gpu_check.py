"""`make gpu-check` on a machine without a GPU: float32 and bitsandbytes' int8 train, resume, chat and are merged."""

import gpu_check
import pytest
import torch


def test_formats_by_machine():
    assert gpu_check.dtypes(gpu=True, bitsandbytes=True) == ["float32", "float16", "bfloat16", "int8", "int4"]
    assert gpu_check.dtypes(gpu=False, bitsandbytes=True) == ["float32", "int8"]
    assert gpu_check.dtypes(gpu=False, bitsandbytes=False) == ["float32"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, make gpu-check itself is the test")
def test_what_a_processor_can_do(tmp_path, capsys):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes has no build for this system")
    fine = gpu_check.check(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert fine and "no GPU" in lines[0], lines
    assert [line.split()[1] for line in lines[1:]] == ["float32"] * 4 + ["int8"] * 4
