"""A tuned model as a web page: llama.cpp, compiled to WebAssembly, runs it in the visitor's own browser."""

import base64
import functools
import html
import http.server
import json
import shutil
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

from .. import common, models
from ..common import CourseError

# wllama (MIT). Its two files, each with the SHA-256 that the page insists on.
ENGINE = "@wllama/wllama"
VERSION = "3.13.0"
CDN = "https://cdn.jsdelivr.net"
FILES = {
    "esm/index.min.js": "sha256-5/N0XuUIwRHCLReNI8Usx0AW3YzsOeRgDYfijSh9eYE=",
    "esm/wasm/wllama.wasm": "sha256-eaxb6Re3HVBXGk9YRDap9rr2tuV3GdCU7YvZUOmmV4A=",
}
PIECE = 32 * 2**20  # bytes; some hosts take no file over 100 MB, and a piece that broke off is fetched again alone
# context, max_tokens: tokens of the conversation that are read, and of a reply at most.
SETTINGS = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 192, "context": 1024}


def write(gguf: Path | str, folder: Path | str | None = None, name: str = "My Baize") -> Path:
    """Write a static folder with which the model in `gguf` chats in the visitor's browser; return its Path.

    folder : default: `web` of this run. One that is there is replaced when the new one stands whole.
    The engine is copied in where npm can fetch it; else the page loads it from a public CDN, and checks its hash.
    """
    gguf, folder = Path(gguf), Path(folder or common.scratch(common.runs() / "web"))
    if not gguf.is_file() or gguf.open("rb").read(4) != b"GGUF":
        raise CourseError(f"{common.show(gguf)} is no GGUF file. Write one first: finetune.export_gguf(adapter).")
    engine = _engine()
    page = {"engine": [], "model": []} | SETTINGS
    with common.atomic_folder(folder, "the web page", "Free some space, and try again.") as new:
        with gguf.open("rb") as file:
            for number, piece in enumerate(iter(functools.partial(file.read, PIECE), b"")):
                path = new / f"model-{number:03d}.bin"
                path.write_bytes(piece)
                page["model"].append({"url": path.name, "integrity": _integrity(path)})
        for path, integrity in FILES.items():
            url = Path(path).name if engine else f"{CDN}/npm/{ENGINE}@{VERSION}/{path}"
            page["engine"].append({"url": url, "integrity": integrity})
        if engine:
            shutil.copytree(engine, new, dirs_exist_ok=True)
        (new / "page.json").write_text(json.dumps(page, indent=1))
        gaps = {"NAME": html.escape(name), "SIZE": f"{gguf.stat().st_size / 1e6:.0f}", "HOSTS": "" if engine else CDN}
        for path in (Path(__file__).with_name(name) for name in ("index.html", "chat.js")):
            text = path.read_text(encoding="utf-8")
            for gap, value in gaps.items():
                text = text.replace("{{" + gap + "}}", value)
            (new / path.name).write_text(text, encoding="utf-8")
    common.write_manifest(folder, "baize_nb.webpage.write (notebook 05)", sources=[gguf], engine=f"{ENGINE} {VERSION}")
    return folder


def _engine():
    """The folder in the user's cache that holds the engine's files, fetched by npm; None where that can't be."""
    folder = models.cache() / f"wllama-{VERSION}"
    npm = shutil.which("npm")
    if npm and not _is_whole(folder):
        command = [npm, "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=60000", f"{ENGINE}@{VERSION}"]
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(command, capture_output=True, cwd=scratch)
            for path in Path(scratch).glob("*.tgz"):
                with tarfile.open(path) as archive, common.atomic_folder(folder, "the engine", "Try again.") as new:
                    for name in (*FILES, "LICENCE"):
                        (new / Path(name).name).write_bytes(archive.extractfile(f"package/{name}").read())
    return folder if _is_whole(folder) else None


def _is_whole(engine):
    files = [engine / Path(path).name for path in (*FILES, "LICENCE")]
    return all(path.is_file() for path in files) and [_integrity(path) for path in files[:2]] == [*FILES.values()]


def _integrity(path):
    return "sha256-" + base64.b64encode(bytes.fromhex(common.sha256(path))).decode()


def show(folder: Path | str):
    """Serve a folder that `write` made, on loopback while the kernel runs; return HTML with a frame that shows it."""
    from IPython.display import HTML

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    tab = f'<a href="{address}" target="_blank">The page in a tab of its own</a>'
    frame = f'<iframe src="{address}" title="Chat with the model" width="100%" height="640"></iframe>'
    return HTML(tab + frame)
