"""The released Baize models, on folders of the same shape: a small LLaMA with bos, LoRA adapters, a merged model."""

import pytest
import torch

from baize_nb import models
from baize_nb.chat import STOPS, load_baize
from baize_nb.chat.baize import GUARD, RELEASED
from baize_nb.common import CourseError

WORDS = f"{GUARD} [|Human|] [|AI|] What is rain? Water that falls. </s> 雪\n" * 4


def llama_tokenizer():
    """Like LLaMA's: pieces of words with ▁ for the space, bytes for the rest, <s> before each text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    inner.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=600, special_tokens=special))
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all that RELEASED names, at the size of a toy."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    root, tokenizer = tmp_path_factory.mktemp("hub"), llama_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    for base in {released.base for released in RELEASED.values()}:
        LlamaForCausalLM(config).save_pretrained(root / base.split("/")[-1])
        tokenizer.save_pretrained(root / base.split("/")[-1])
    for base, adapter in filter(all, RELEASED.values()):
        model = LlamaForCausalLM.from_pretrained(root / base.split("/")[-1])
        lora = LoraConfig(target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(str(root / adapter.split("/")[-1]))
    return root


@pytest.mark.parametrize("name", RELEASED)
def test_three_lines_load_a_released_model_with_its_prompt(folder, name):
    chat = load_baize(name, folder, dtype="float32", max_new_tokens=4)
    assert hasattr(chat._reader._given, "peft_config") == (RELEASED[name].adapter is not None)
    chat.answer("What is rain? </s>")
    chat.messages[1]["content"] = "Water."
    text = f"{GUARD}\n[|Human|] What is rain? </s>\n[|AI|] Water.\n[|Human|] Why?\n[|AI|]"
    assert chat.prompt("Why?") == text
    read, inner = [], chat._reader.logits
    chat._reader.logits = lambda ids: read.append(ids) or inner(ids)
    chat.answer("Why?")
    asked = read[0]
    assert asked == chat.tokenizer(text, split_special_tokens=True).input_ids
    assert asked[0] == chat.tokenizer.bos_token_id and chat.tokenizer.eos_token_id not in asked


def test_a_released_model_stops_at_the_next_marker(folder):
    chat = load_baize("7b", folder, dtype="float32", max_new_tokens=40)
    script = iter(chat.tokenizer(" Water that falls.\n[|Human|] What", add_special_tokens=False).input_ids)
    size = len(chat.tokenizer)
    chat._reader.logits = lambda ids: torch.nn.functional.one_hot(torch.tensor(next(script)), size) * 99.0
    assert chat.answer("What is rain?") == "Water that falls."
    assert chat.last.end == "marker" and chat.stops == STOPS


def test_the_guard_and_the_settings_can_be_ones_own(folder):
    chat = load_baize("v2-7b", folder, dtype="float32", guard="", temperature=0.1)
    assert chat.prompt("Why?") == "[|Human|] Why?\n[|AI|]" and chat.temperature == 0.1


def test_what_is_not_there_is_said(folder, tmp_path):
    with pytest.raises(CourseError, match=r"no released Baize model '70b'.*v2-13b"):
        load_baize("70b")
    with pytest.raises(CourseError, match="Could not load the base model"):
        load_baize("7b", tmp_path)
    (tmp_path / "llama-7b").symlink_to(folder / "llama-7b")
    with pytest.raises(CourseError, match="holds no LoRA adapter"):
        load_baize("7b", tmp_path, dtype="float32")


def test_an_adapter_on_the_hub_that_can_not_be_reached_is_said(folder):
    with pytest.raises(CourseError, match=r"Could not load the adapter 'project-baize/none' from the model hub"):
        models.load(str(folder / "llama-7b"), adapter="hub:project-baize/none")
