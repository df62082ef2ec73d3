"""Models that several files of tests share."""

import signal

import pytest

# A shell that starts this in the background has Ctrl-C ignored, for us and for every process that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def base():
    """(model, tokenizer): the embedded base model, fresh for each file of tests."""
    from baize_nb import models

    return models.load()


@pytest.fixture(scope="module")
def tokenizer(base):
    """Its tokenizer."""
    return base[1]


@pytest.fixture(scope="session")
def small_base(tmp_path_factory):
    """Folder of a random LLaMA with the embedded model's tokenizer, so small that it trains in seconds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from baize_nb import models

    folder, tokenizer = tmp_path_factory.mktemp("base"), models.load_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
