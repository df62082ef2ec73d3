"""dtype "auto": what is chosen, that it is kept, and that training in bfloat16 teaches the same."""

from dataclasses import replace

import pytest
import torch
from smalltalk import DIALOGUES, TINY
from transformers import LlamaConfig, LlamaForCausalLM

from baize_nb import finetune, models, profiles
from baize_nb.common import CourseError
from baize_nb.finetune import hardware, precision, saving
from baize_nb.finetune.fastlora import _Lora
from baize_nb.finetune.watching import Watching

AUTO = replace(TINY, dtype="auto", epochs=8, dropout=0.1, learning_rate=0.005)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Always as many: how busy the machine is must not decide the last bits of runs that are compared."""
    monkeypatch.setattr(hardware, "free_cores", lambda most: most)


def found(monkeypatch, ratio):
    monkeypatch.setattr(precision, "times_as_fast", lambda: ratio)


@pytest.mark.parametrize(("ratio", "chosen"), [(0.2, "float32"), (1.1, "float32"), (1.3, "bfloat16")])
def test_bfloat16_has_to_be_worth_it(ratio, chosen, monkeypatch, capsys):
    found(monkeypatch, ratio)
    assert precision.choose("auto") == chosen
    assert chosen in capsys.readouterr().out


def test_any_other_dtype_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(precision, "times_as_fast", lambda: 1 / 0)  # is not even tried
    assert [precision.choose(dtype) for dtype in ("float32", "float16", "int8")] == ["float32", "float16", "int8"]


def test_the_probe_really_computes():
    ratio = precision.times_as_fast(seconds=0.05)
    assert 0.001 < ratio < 100
    assert profiles.get("laptop").dtype == "auto" and profiles.get("ci").dtype == "float32"


def test_auto_loads_float32_everywhere_else():
    assert models.dtype_arguments("auto") == {"dtype": torch.float32}


def test_quick_lora_in_bfloat16_rounds_the_formula():
    torch.manual_seed(0)
    x, weight, a, b, grad = (torch.randn(size) for size in ((50, 64), (32, 64), (4, 64), (32, 4), (50, 32)))
    for tensor in (x, a, b):
        tensor.requires_grad_()
    formula = x @ weight.T + 2.0 * x @ a.T @ b.T
    expected = torch.autograd.grad(formula, (x, a, b), grad)
    half = x.detach().bfloat16().requires_grad_()
    ours = _Lora.apply(half, weight.bfloat16(), a, b, 2.0, 0.0)
    gradients = torch.autograd.grad(ours, (half, a, b), grad.bfloat16())
    assert [g.dtype for g in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    for got, wanted in zip((ours, *gradients), (formula, *expected), strict=True):
        assert (got.float() - wanted).norm() < 0.02 * wanted.norm()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A base model so small that even a processor without bfloat16 trains it in seconds."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = models.load_tokenizer()
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.2,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_training_in_bfloat16_teaches_the_same_and_goes_on_as_it_began(small, tmp_path, monkeypatch, capsys):
    def train(out):
        return finetune.train(DIALOGUES, DIALOGUES[:2], base=small, out=out / "adapter", profile=AUTO)

    runs = {}
    for ratio, dtype in ((0.5, "float32"), (2.0, "bfloat16")):
        found(monkeypatch, ratio)
        runs[dtype] = train(tmp_path / dtype)
        assert runs[dtype].dtype == dtype
    whole, exact = runs["bfloat16"], runs["float32"]
    assert whole.loss_before == pytest.approx(exact.loss_before, abs=0.02)
    assert exact.loss_before - exact.loss_after > 1
    assert whole.loss_after == pytest.approx(exact.loss_after, abs=0.05)

    def interrupt(self, args, state, control, **_):
        if state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(CourseError, match="Interrupted at step 4"):
        patch.setattr(Watching, "on_step_begin", interrupt)
        train(tmp_path / "broken")
    found(monkeypatch, 0.5)  # another look would choose otherwise
    resumed = train(tmp_path / "broken")
    assert "Going on from" in capsys.readouterr().out and resumed.dtype == "bfloat16"
    assert (resumed.adapter / saving.WEIGHTS).read_bytes() == (whole.adapter / saving.WEIGHTS).read_bytes()
    model, _ = models.load(small, adapter=resumed.adapter)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
