"""A tuned model as a web page: llama.cpp, compiled to WebAssembly, runs it in the visitor's own browser."""

import base64
import contextlib
import functools
import hashlib
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

# wllama (MIT): llama.cpp compiled to WebAssembly. Its two files, each with the SHA-256 that the page insists on.
ENGINE = "@wllama/wllama"
VERSION = "3.13.0"
CDN = "https://cdn.jsdelivr.net"
FILES = {
    "esm/index.min.js": "sha256-5/N0XuUIwRHCLReNI8Usx0AW3YzsOeRgDYfijSh9eYE=",
    "esm/wasm/wllama.wasm": "sha256-eaxb6Re3HVBXGk9YRDap9rr2tuV3GdCU7YvZUOmmV4A=",
}
PIECE = 32 * 2**20  # bytes; some hosts take no file over 100 MB, and a piece that broke off is fetched again alone


def write(
    gguf: Path | str,
    folder: Path | str | None = None,
    name: str = "My Baize",
    temperature: float = 0.7,
    top_p: float = 0.95,
    max_tokens: int = 192,
    context: int = 1024,
    seed: int | None = None,
) -> Path:
    """Write a static folder with which the model in `gguf` chats in the visitor's browser; return its Path.

    gguf     : a file that llama.cpp reads, with its chat template inside (`export_gguf` writes one).
    folder   : default: `web` of this run. One that is there is replaced when the new one stands whole.
    context, max_tokens : tokens of the conversation that are read, and of a reply at most.
    seed     : of the random numbers; None: other ones for each reply.

    Any host of static files will do (over https or on localhost). The engine is copied in where npm can fetch it;
    else the page loads it from a public CDN, at a fixed version, and runs it only if its hash is right.
    Raises CourseError: no GGUF file, a full disk.
    """
    gguf, folder = Path(gguf), Path(folder) if folder else common.scratch(common.runs() / "web")
    if not gguf.is_file() or gguf.open("rb").read(4) != b"GGUF":
        raise CourseError(f"{common.show(gguf)} is no GGUF file. Write one first: finetune.export_gguf(adapter).")
    here, engine = Path(__file__).parent, _engine()
    with common.atomic_folder(folder, "the web page", "Free some space, and try again.") as temporary:
        pieces = []
        with gguf.open("rb") as file:
            for number, piece in enumerate(iter(functools.partial(file.read, PIECE), b"")):
                (temporary / f"model-{number:03d}.bin").write_bytes(piece)
                pieces.append({"url": f"model-{number:03d}.bin", "integrity": _integrity(piece)})
        for path in (*FILES, "LICENCE") if engine else ():
            shutil.copy(engine / Path(path).name, temporary)
        wasm, script = (
            {"url": Path(path).name if engine else f"{CDN}/npm/{ENGINE}@{VERSION}/{path}", "integrity": integrity}
            for path, integrity in sorted(FILES.items(), reverse=True)
        )
        settings = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "context": context}
        page = {"engine": {"script": script, "wasm": wasm}, "model": pieces, **settings, "seed": seed}
        (temporary / "page.json").write_text(json.dumps(page, indent=1), encoding="utf-8")
        words = {"NAME": html.escape(name), "SIZE": f"{gguf.stat().st_size / 1e6:.0f}"}
        words["HOSTS"] = "'self'" if engine else f"'self' {CDN}"
        text = (here / "index.html").read_text(encoding="utf-8")
        for key, value in words.items():
            text = text.replace("{{" + key + "}}", value)
        (temporary / "index.html").write_text(text, encoding="utf-8")
        shutil.copy(here / "chat.js", temporary)
    common.write_manifest(folder, "baize_nb.webpage.write (notebook 05)", sources=[gguf], engine=f"{ENGINE} {VERSION}")
    return folder


def _engine():
    """The folder in the user's cache that holds the engine's files, fetched by npm once; None where that can't be."""
    folder = models.cache() / f"wllama-{VERSION}"
    if not folder.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            return None
        with tempfile.TemporaryDirectory() as temporary:
            command = [npm, "pack", "--silent", "--fetch-retries=0", f"{ENGINE}@{VERSION}"]
            with contextlib.suppress(subprocess.TimeoutExpired):  # a firewall that swallows requests
                subprocess.run(command, capture_output=True, cwd=temporary, timeout=60)
            archives = list(Path(temporary).glob("*.tgz"))
            if not archives:
                return None
            with tarfile.open(archives[0]) as archive, common.atomic_folder(folder, "the engine", "Try again.") as out:
                for path in (*FILES, "LICENCE"):
                    (out / Path(path).name).write_bytes(archive.extractfile(f"package/{path}").read())
    fine = all(_integrity((folder / Path(path).name).read_bytes()) == expected for path, expected in FILES.items())
    if not fine:
        shutil.rmtree(folder)  # not what it should be: the page takes the CDN's, whose hash the browser checks
    return folder if fine else None


def _integrity(content):
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def show(folder: Path | str, height: int = 640):
    """Serve a folder that `write` made, on loopback while the kernel runs; return HTML with a frame that shows it."""
    from IPython.display import HTML

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    frame = f'<iframe src="{address}" title="Chat with the model" width="100%" height="{height}"></iframe>'
    return HTML(f'<a href="{address}" target="_blank">The page in a tab of its own</a>{frame}')
