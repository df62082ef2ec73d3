"""Base models and adapters as other people save them: they say what peft says, or one sentence says what is wrong."""

import json
import shutil

import gguf
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from baize_nb import finetune, models
from baize_nb.common import CourseError
from baize_nb.decoding import CachedModel

IDS = [1, 300, 40, 777, 52, 9, 1500]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """{tied: folder} of tiny random models with the embedded one's tokenizer."""
    folder, tokenizer = tmp_path_factory.mktemp("bases"), models.load_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    for tied in (True, False):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=tied, initializer_range=0.2, **sizes)
        for place in (LlamaForCausalLM(config), tokenizer):
            place.save_pretrained(folder / str(tied))
    return {tied: folder / str(tied) for tied in (True, False)}


def adapter_for(base, folder, config=peft.LoraConfig, **changes):
    """An adapter that peft saves, with numbers that change what the model says."""
    usual = {"r": 4, "target_modules": ["q_proj", "v_proj"]} if config is peft.LoraConfig else {}
    settings = config(task_type="CAUSAL_LM", **usual | changes)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.add_(torch.randn_like(weight) * 0.3)
    model.save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0].float()


KINDS = {
    "plain": (True, {}),
    "DoRA": (True, {"use_dora": True}),
    "ranks of their own": (True, {"rank_pattern": {"q_proj": 2}, "use_rslora": True}),
    "projection saved whole": (True, {"modules_to_save": ["lm_head"]}),
    "both saved whole": (True, {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "LoRA on the embedding": (True, {"target_modules": ["q_proj", "embed_tokens"]}),
    "LoRA on both, untied": (False, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "some tokens": (True, {"trainable_token_indices": [40, 777]}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_chat_merged_folder_and_gguf_say_what_peft_says(kind, bases, tmp_path):
    tied, changes = KINDS[kind]
    base, adapter = bases[tied], adapter_for(bases[tied], tmp_path / "adapter", **changes)
    bare = AutoModelForCausalLM.from_pretrained(base)
    before = logits(bare)
    expected = logits(peft.PeftModel.from_pretrained(bare, adapter))
    assert (expected - before).abs().max() > 0.5
    model = models.load(str(base), adapter=adapter)[0]
    assert torch.allclose(logits(model), expected, atol=1e-3)
    for on, wanted in ((True, expected), (False, before)):  # as chat reads it
        assert torch.allclose(CachedModel(model, on).logits(IDS), wanted[-1], atol=1e-3), on
    merged = AutoModelForCausalLM.from_pretrained(finetune.merge(adapter, str(base), tmp_path / "merged"))
    assert torch.allclose(logits(merged), expected, atol=1e-3)
    if kind == "projection saved whole":
        file = finetune.export_gguf(adapter, str(base), tmp_path / "x.gguf", kind="F32")
        tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
        assert (tensors["token_embd.weight"] == merged.model.embed_tokens.weight.detach().numpy()).all()
        assert (tensors["output.weight"] == merged.lm_head.weight.detach().numpy()).all()


def test_an_adapter_with_biases_chats_and_says_that_it_cannot_be_merged(bases, tmp_path):
    adapter = adapter_for(bases[True], tmp_path / "adapter", lora_bias=True)
    expected = logits(peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases[True]), adapter))
    model = models.load(str(bases[True]), adapter=adapter)[0]
    assert torch.allclose(CachedModel(model).logits(IDS), expected[-1], atol=1e-3)
    with pytest.raises(CourseError, match=r"can't be merged.*Chat with it"):
        finetune.merge(adapter, str(bases[True]), tmp_path / "merged")


def weights(folder, change):
    """Replace the adapter's weights {name: tensor} by `change` of them."""
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def without(part):
    return lambda a: weights(a, lambda found: {k: v for k, v in found.items() if part not in k})


def deeper(found):
    """As if it were trained on a model of more layers."""
    return found | {k.replace("layers.1.", "layers.2."): v.clone() for k, v in found.items() if "layers.1." in k}


def set_config(folder, name="adapter_config.json", **changes):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def overwritten(folder, content=None):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-40] if content is None else content)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
FAULTS = {  # what happened to an adapter: (the change, the sentence)
    "weights missing": (without("layers.1.self_attn.q_proj.lora_A"), "fit .*: 1 of its weights are missing"),
    "surplus layers": (lambda a: weights(a, deeper), "fit .*: 4 of its weights have no place"),
    "no matching name": (
        lambda a: weights(a, lambda found: {k.replace("base_model", "student"): v for k, v in found.items()}),
        "fit .*: 8 of its weights are missing",
    ),
    "cut file": (overwritten, r"Could not read the adapter .*cut or damaged"),
    "pointer": (lambda a: overwritten(a, POINTER), "adapter_model.safetensors is a Git LFS pointer"),
    "unknown kind": (lambda a: set_config(a, peft_type="WONDER"), "peft does not know its kind, .WONDER"),
    "no numbers": (
        lambda a: weights(a, lambda found: {k: v * float("nan") for k, v in found.items()}),
        "8 of its weights are no numbers",
    ),
    "odd ranks": (lambda a: set_config(a, rank_pattern=["x"]), "does not fit this base model"),
    "other targets": (lambda a: set_config(a, target_modules=["c_attn"]), "does not fit this base model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_an_adapter_is_one_sentence(fault, bases, tmp_path):
    change, sentence = FAULTS[fault]
    change(adapter_for(bases[True], tmp_path / "adapter"))
    with pytest.raises(CourseError, match=sentence) as said:
        models.load(str(bases[True]), adapter=tmp_path / "adapter")
    assert "\n" not in str(said.value) and len(str(said.value)) < 500


def test_an_adapter_of_another_kind_or_another_vocabulary_is_refused(bases, tmp_path):
    other = adapter_for(
        bases[True], tmp_path / "ia3", peft.IA3Config, target_modules=["k_proj"], feedforward_modules=[]
    )
    with pytest.raises(CourseError, match=r"of the kind .*IA3.*LoRA adapters only"):
        models.load(str(bases[True]), adapter=other)
    grown = AutoModelForCausalLM.from_pretrained(bases[False])
    grown.resize_token_embeddings(49_160)
    grown.save_pretrained(tmp_path / "grown")
    adapter = adapter_for(tmp_path / "grown", tmp_path / "adapter", target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(CourseError, match=r"does not fit this base model.*49160"):
        models.load(str(bases[False]), adapter=adapter)


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def more_tokens(folder):
    tokenizer = models.load_tokenizer(str(folder))
    tokenizer.add_tokens(["<|new|>", "<|newer|>"])
    tokenizer.save_pretrained(folder)


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


BASES = [
    (lambda f: (f / "model.safetensors").write_bytes(POINTER), "is a Git LFS pointer"),
    (cut, "cut or damaged"),
    (lambda f: set_config(f, "config.json", num_hidden_layers=3), "weights are missing"),
    (lambda f: set_config(f, "config.json", num_hidden_layers=1), "model.layers.1"),
    (lambda f: set_config(f, "config.json", vocab_size=49_160), "(49152, 32) instead of (49160, 32)"),
    (pickled, "pickled (.bin), and reading them can run code"),
    (more_tokens, "tokenizer has 49,154 tokens, and the model 49,152"),
]


def test_what_is_wrong_with_a_base_model_is_one_sentence(bases, tmp_path):
    for number, (change, sentence) in enumerate(BASES):
        folder = shutil.copytree(bases[False], tmp_path / str(number))
        change(folder)
        with pytest.raises(CourseError) as said:
            models.load(str(folder))
        assert sentence in str(said.value) and "\n" not in str(said.value) and len(str(said.value)) < 500
