"""Out the door: base model and adapter become one model, as a transformers folder or as a GGUF file.

Merging adds (alpha / r) · B A to each matrix once and for all: the model computes what base and adapter computed
together, a little faster, and every program that reads a LLaMA can run it.
"""

from pathlib import Path

import gguf
import torch

from .. import common, models, profiles
from ..common import CourseError
from .tokens import chat_template

OTHERWISE = (
    "Write it with finetune.merge, and convert that folder with llama.cpp's own tool: "
    "python convert_hf_to_gguf.py FOLDER --outtype q8_0"
)
# kind → (how a matrix is stored, what the file says it is). Vectors (the norms) stay float32 in both.
KINDS = {
    "F32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


def merge(adapter: Path | str, base: str = "embedded", out: Path | str | None = None, dtype: str = "float32") -> Path:
    """Write base model + adapter as a plain transformers folder; return its Path.

    adapter : folder of a LoRA adapter, or "hub:<id>".
    base    : "embedded", a folder or a hub id: the one that the adapter was trained on.
    out     : the folder; default: this run's `merged`. One that is there is replaced when the new one stands whole.
    dtype   : "float32", "bfloat16" or "float16".

    The tokenizer's chat template writes the Baize format. `models.load(str(folder))` reads the folder. Raises
    CourseError: no adapter, one of another base, a full disk.
    """
    if dtype in profiles.QUANTIZED:
        raise CourseError(f"A model in {dtype} can't be merged without losing the update: use float32 or float16.")
    out = Path(out) if out is not None else common.scratch(common.runs() / "merged")
    model, tokenizer = _merged(adapter, base, dtype)
    tokenizer.chat_template = chat_template(tokenizer)
    then = "Free some space or set BAIZE_RUNS to another disk, and try again."
    with common.atomic_folder(out, "the model", then) as temporary, models.quiet():
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    _manifest(out, "merge", adapter, base, dtype=dtype)
    return out


def export_gguf(
    adapter: Path | str | None, base: str = "embedded", out: Path | str | None = None, kind: str = "Q8_0"
) -> Path:
    """Write base model + adapter as one GGUF file; return its Path. `teacher.Engine(path, name)` serves it.

    adapter : as in `merge`; None writes the base model as it is, to compare with.
    base : as in `merge`; a LLaMA with the embedded model's tokenizer, since the embedded file lends its own.
    out  : the file; default: `baize.<kind>.gguf` of this run.
    kind : "F32" (4 bytes a weight, exact) or "Q8_0" (8 bits a weight, and a scale for each 32 of them).

    By the chat template in it, llama.cpp's /v1/chat/completions writes exactly transcript.prompt, with a system message
    in the preamble's place. Raises CourseError as `merge`, and for another tokenizer, kind or architecture.
    """
    if kind not in KINDS:
        raise CourseError(f"There is no GGUF kind {kind!r} here. Use one of: {', '.join(KINDS)}.")
    source, tokenizer = gguf.GGUFReader(models.gguf()), models.load_tokenizer(base)
    tokens = source.fields["tokenizer.ggml.tokens"].contents()
    if tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) != tokens:
        raise CourseError(
            f"This model has another tokenizer than {models.NAME}, whose GGUF file lends its own. {OTHERWISE}"
        )
    out = Path(out) if out is not None else common.scratch(common.runs() / f"baize.{kind}.gguf")
    write_gguf(_merged(adapter, base, "float32")[0], tokenizer, source, out, kind)
    _manifest(out, "export_gguf", adapter, base, kind=kind)
    return out


def _merged(adapter, base, dtype):
    """(model, tokenizer): the adapter worked into the base model's own matrices."""
    model, tokenizer = models.load(base, dtype, adapter=adapter)
    try:
        return (model if adapter is None else model.merge_and_unload()), tokenizer
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise CourseError(
            f"This adapter can't be merged into its base model ({error}). Chat with it as it is, by models.load."
        ) from error


def _manifest(out, command, adapter, base, **facts):
    weights = Path(adapter or "") / "adapter_model.safetensors"
    sources = [weights] if weights.is_file() else []  # one from a hub is named below
    facts |= {"base": models.base_name(base), "adapter": adapter and Path(adapter).name}
    common.write_manifest(out, f"baize_nb.finetune.{command} (notebook 05)", sources=sources, **facts)


def write_gguf(model, tokenizer, source: gguf.GGUFReader, out: Path, kind: str) -> None:
    """Write a LlamaForCausalLM, with the metadata and tokenizer of `source`, to the file `out`, whole or not at all."""
    config, (packing, file_type) = model.config, KINDS[kind]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()  # it is the embedding once more
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    tensors = {names.get_name(name, try_suffixes=(".weight",)): tensor for name, tensor in weights.items()}
    plain = config.model_type == "llama" and config.head_dim * config.num_attention_heads == config.hidden_size
    if not plain or None in tensors or config.rope_parameters["rope_type"] != "default":
        raise CourseError(f"This model is no plain LLaMA. {OTHERWISE}")
    changed = {
        "general.name": "LLaMA tuned on Baize dialogues",
        "general.finetune": "baize-nb",
        "general.file_type": int(file_type),
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
    with common.atomic_write(out) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        try:
            for field in source.fields.values():
                if field.name.startswith("GGUF.") or field.name == "general.architecture":
                    continue  # the writer says these itself
                type_ = field.types[0]
                inner = field.types[-1] if type_ == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, changed.get(field.name, field.contents()), type_, sub_type=inner)
            for name, tensor in tensors.items():
                stored = gguf.GGMLQuantizationType.F32 if tensor.ndim == 1 else packing
                numbers = _in_order(name, tensor, config).numpy()
                writer.add_tensor(name, gguf.quants.quantize(numbers, stored), raw_dtype=stored)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _in_order(name, tensor, config):
    """A tensor as llama.cpp wants it: float32, on the CPU, the rows of q and k in its own order.

    Rotary position embedding turns pairs of numbers. transformers pairs the two halves of a head, row i with row
    i + size / 2; llama.cpp pairs neighbours, rows 2 i and 2 i + 1.
    """
    tensor = tensor.detach().float().cpu()
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if not heads:
        return tensor
    # (heads · size, inputs) → (heads, halves, size / 2, inputs) → (heads, size / 2, halves, inputs)
    return torch.stack(tensor.view(heads, 2, -1, tensor.shape[-1]).unbind(1), dim=2).reshape(tensor.shape)
