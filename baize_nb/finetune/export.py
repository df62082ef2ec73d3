"""Out the door: base model and adapter become one model, as a transformers folder or as a GGUF file.

Merging adds (alpha / r) · B A to each matrix once and for all: every program that reads a LLaMA can run the result.
"""

from contextlib import closing
from pathlib import Path

import gguf

from .. import common, models, profiles
from ..common import CourseError
from .tokens import chat_template

# What a file says it is. Vectors (the norms) stay float32 in both.
KINDS = {"F32": gguf.LlamaFileType.ALL_F32, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}


def merge(adapter: Path | str, base: str = "embedded", out: Path | str | None = None, dtype: str = "float32") -> Path:
    """Write base model + adapter as a plain transformers folder, whose chat template is Baize's; return its Path.

    adapter : folder of a LoRA adapter, or "hub:<id>". base : the one that it was trained on, as in `train`.
    out : the folder; default: this run's `merged`. dtype : "float32", "bfloat16" or "float16".
    """
    if dtype in profiles.QUANTIZED:
        raise CourseError(f"A model in {dtype} can't be merged without losing the update: use float32 or float16.")
    out = Path(out) if out is not None else common.scratch(common.runs() / "merged")
    model, tokenizer, facts = _merged(adapter, base, dtype)
    tokenizer.chat_template = chat_template(tokenizer)
    then = "Free some space or set BAIZE_RUNS to another disk, and try again."
    with common.atomic_folder(out, "the model", then) as temporary, models.quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    common.write_manifest(out, "baize_nb.finetune.merge (notebook 05)", **facts, dtype=dtype)
    return out


def export_gguf(
    adapter: Path | str | None, base: str = "embedded", out: Path | str | None = None, kind: str = "Q8_0"
) -> Path:
    """Write base model + adapter as one GGUF file; return its Path. `teacher.Engine(path, name)` serves it.

    adapter, base : as in `merge`; without an adapter it is the base model as it is.
    out  : the file; default: `baize.<kind>.gguf` of this run.
    kind : "F32" (4 bytes a weight, exact) or "Q8_0" (8 bits a weight, and a scale for each 32 of them).

    By the chat template in it, llama.cpp's /v1/chat/completions writes exactly transcript.prompt.
    """
    if kind not in KINDS:
        raise CourseError(f"There is no GGUF kind {kind!r} here. Use one of: {', '.join(KINDS)}.")
    out = Path(out) if out is not None else common.scratch(common.runs() / f"baize.{kind}.gguf")
    model, tokenizer, facts = _merged(adapter, base, "float32")
    write_gguf(model, tokenizer, gguf.GGUFReader(models.gguf()), out, kind)
    common.write_manifest(out, "baize_nb.finetune.export_gguf (notebook 05)", **facts, kind=kind)
    return out


def _merged(adapter, base, dtype):
    """(the base model with the adapter worked into its matrices, tokenizer, what a manifest says of them)."""
    model, tokenizer = models.load(base, dtype, adapter=adapter)
    facts = {"base": models.base_name(base), "adapter": adapter and Path(adapter).name}
    weights = Path(adapter or "") / "adapter_model.safetensors"
    facts["sources"] = [weights] if weights.is_file() else []  # an adapter from a hub has only its name
    try:
        return (model if adapter is None else model.merge_and_unload()), tokenizer, facts
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise CourseError(f"This adapter can't be merged ({error}). Chat with it as it is, by models.load.") from error


def write_gguf(model, tokenizer, source: gguf.GGUFReader, out: Path, kind: str) -> None:
    """Write a LlamaForCausalLM, with the metadata and tokenizer of `source`, to the file `out`, whole or not at all."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    weights = model.state_dict()
    if config.tie_word_embeddings:
        del weights["lm_head.weight"]  # it is the embedding once more
    tensors = {names.get_name(name, try_suffixes=(".weight",)): tensor for name, tensor in weights.items()}
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    plain = config.model_type == "llama" and config.head_dim * config.num_attention_heads == config.hidden_size
    plain = plain and None not in tensors and config.rope_parameters["rope_type"] == "default"
    if not plain or tokens != source.fields["tokenizer.ggml.tokens"].contents():
        raise CourseError(
            f"This model is no plain LLaMA with the tokenizer of {models.NAME}. Use finetune.merge, and on its folder "
            "llama.cpp's convert_hf_to_gguf.py."
        )
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    changed = {
        "general.name": "LLaMA tuned on Baize dialogues",
        "general.finetune": "baize-nb",
        "general.file_type": int(KINDS[kind]),
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
        "tokenizer.chat_template": chat_template(tokenizer),
    }
    for name, part in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):  # a base may stop by another token
        changed[f"tokenizer.ggml.{name}_token_id"] = getattr(tokenizer, f"{part}_token_id") or tokenizer.eos_token_id
    with common.atomic_write(out) as temporary, closing(gguf.GGUFWriter(temporary, "llama")) as writer:
        for field in source.fields.values():
            if field.name.startswith("GGUF.") or field.name == "general.architecture":
                continue  # the writer says these itself
            type_, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
            value = changed.get(field.name, field.contents())
            writer.add_key_value(field.name, value, type_, sub_type=inner)
        for name, tensor in tensors.items():
            numbers = tensor.detach().float().cpu()
            if n := heads.get(name.split(".")[-2]):
                # Rotary position embedding turns pairs of numbers. transformers pairs the two halves of a head, row i
                # with row i + size / 2; llama.cpp pairs neighbours, rows 2 i and 2 i + 1.
                # (heads · size, inputs) → (heads, halves, size / 2, inputs) → (heads, size / 2, halves, inputs)
                halves = numbers.view(n, 2, -1, numbers.shape[-1])
                numbers = halves.transpose(1, 2).reshape(numbers.shape)
            stored = gguf.GGMLQuantizationType["F32" if tensor.ndim == 1 else kind]
            writer.add_tensor(name, gguf.quants.quantize(numbers.numpy(), stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
