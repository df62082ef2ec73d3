"""A tuned model as one GGUF file, the form that llama.cpp and the programs built on it read.

Knows: the embedded GGUF file, whose metadata and tokenizer are kept, and how llama.cpp orders and packs weights.
Does not know: adapters, or other tokenizers: for models that have one, llama.cpp brings a converter. A larger model of
the embedded one's family has the same tokenizer. Built in notebook 05.
"""

import gguf
import torch

from .. import common, models
from ..common import CourseError
from .chattemplate import chat_template

OTHERWISE = (
    "Write it with finetune.merge, and convert that folder with llama.cpp's own tool: "
    "python convert_hf_to_gguf.py FOLDER --outtype q8_0"
)
# kind → (how a matrix is stored, what the file says it is). Vectors (the norms) stay float32 in both.
KINDS = {
    "F32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


def known(kind):
    """What KINDS says about a kind. Raises CourseError for one that it does not have."""
    if kind not in KINDS:
        raise CourseError(f"There is no GGUF kind {kind!r} here. Use one of: {', '.join(KINDS)}.")
    return KINDS[kind]


def write(model, tokenizer, source, out, kind):
    """Write a LlamaForCausalLM to the file `out`, whole or not at all.

    tokenizer : the model's. source : the embedded file, as `check` of this tokenizer opened it.
    kind      : "F32" (4 bytes a weight, exact) or "Q8_0" (8 bits a weight, and a scale for each 32 of them).
    Raises CourseError for another kind, a model that is no plain LLaMA, or a full disk.
    """
    packing, file_type = known(kind)
    tensors = _named(model)
    changed = _shape(model) | {
        "general.name": "LLaMA tuned on Baize dialogues",
        "general.finetune": "baize-nb",
        "general.file_type": int(file_type),
        "tokenizer.chat_template": chat_template(tokenizer),
    }
    with common.atomic_write(out) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        try:
            _copy_metadata(source, writer, changed)
            for name, tensor in tensors.items():
                stored = gguf.GGMLQuantizationType.F32 if tensor.ndim == 1 else packing
                numbers = _in_order(name, tensor, model.config).numpy()
                writer.add_tensor(name, gguf.quants.quantize(numbers, stored), raw_dtype=stored)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def check(tokenizer):
    """The embedded GGUF file, opened. Raises CourseError where `tokenizer` is not the one that is in it."""
    source = gguf.GGUFReader(models.gguf())
    tokens = source.fields["tokenizer.ggml.tokens"].contents()
    if tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) != tokens:
        raise CourseError(
            f"This model has another tokenizer than {models.NAME}, whose GGUF file lends its own. {OTHERWISE}"
        )
    return source


def _copy_metadata(source, writer, changed):
    """The embedded file's own metadata, tokenizer included, with `changed` in the place of some of it."""
    for field in source.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue  # the writer says these itself
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, changed.get(field.name, field.contents()), kind, sub_type=inner)


def _shape(model):
    """What the file's metadata says of a model's shape."""
    config = model.config
    return {
        "general.size_label": f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f}M",
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_parameters["rope_theta"],
        "llama.rope.dimension_count": config.head_dim,
        "llama.vocab_size": config.vocab_size,
    }


def _named(model):
    """{name in the GGUF file: the model's tensor}. Raises CourseError for a model that is no plain LLaMA."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()  # it is the embedding once more
    found = {
        names.get_name(name, try_suffixes=(".weight",)): tensor
        for name, tensor in model.state_dict().items()
        if name not in tied
    }
    plain = config.model_type == "llama" and config.head_dim * config.num_attention_heads == config.hidden_size
    if not plain or None in found or config.rope_parameters["rope_type"] != "default":
        raise CourseError(f"This model is no plain LLaMA. {OTHERWISE}")
    return found


def _in_order(name, tensor, config):
    """A tensor as llama.cpp wants it: float32, on the CPU, the rows of q and k in its own order."""
    tensor = tensor.detach().float().cpu()
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    return permuted(tensor, heads) if heads else tensor


def permuted(weight, heads):
    """Rows of a q or k matrix in llama.cpp's order. weight: (heads · size, inputs).

    Rotary position embedding turns pairs of numbers. transformers pairs the two halves of a head, row i with row
    i + size / 2; llama.cpp pairs neighbours, rows 2 i and 2 i + 1.
    """
    return torch.stack(weight.view(heads, 2, -1, weight.shape[-1]).unbind(1), dim=2).reshape(weight.shape)
