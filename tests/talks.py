"""Sessions for tests where the real model is not the point: a tiny LLaMA of random weights, and one with a script."""

from baize_nb import models
from baize_nb.chat import ChatSession, Conversation


def tiny(tokenizer=None, **config):
    """(model, tokenizer): random weights of the size of a toy; the embedded model's tokenizer, or the one given."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or models.load_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = LlamaConfig(**{"vocab_size": len(tokenizer), "max_position_embeddings": 8192, **sizes, **config})
    return LlamaForCausalLM(config).eval(), tokenizer


def llama_tokenizer():
    """Like LLaMA's: pieces of words with ▁ for the space, bytes for the rest, <s> before each text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = "Be brief. [|Human|] [|AI|] What is rain? Water that falls. ping Pong, said the bear. </s> 雪\n" * 4
    inner.train_from_iterator([words], trainers.BpeTrainer(vocab_size=600, special_tokens=special))
    inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def session(base, **settings):
    """A `ChatSession`; short and greedy unless the settings say otherwise."""
    return ChatSession(*base, **{"max_new_tokens": 6, "temperature": 0, **settings})


class Scripted(Conversation):
    """Says one script after the other, the last one again and again. `asked`: the messages it was given, each time.

    A script is a list of pieces: text, None for the stop token, a function to call, or an exception to raise. Without
    scripts it echoes.
    """

    def __init__(self, *scripts, **settings):
        self.scripts, self.asked = scripts, []
        super().__init__(**{"max_new_tokens": 50, "context": 100_000, **settings})

    def _length(self, messages):
        return sum(len(message["content"]) for message in messages)  # letters

    def _write(self, messages):
        self.asked.append(messages)
        echo = [messages[-1]["content"], None]
        for piece in self.scripts[min(len(self.asked), len(self.scripts)) - 1] if self.scripts else echo:
            if isinstance(piece, BaseException):
                raise piece
            if callable(piece):
                piece()
            else:
                yield piece, 1
