"""The doctor: the most likely failures, each brought about as really as it can be, and its remedy."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path, PureWindowsPath

import pytest
from endpoints import Answer, answering, serving

from baize_nb import common, doctor, models
from baize_nb.finetune import memory

ROOT = Path(__file__).resolve().parent.parent
WORD = json.dumps({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "length"}]})
REPLY = Answer(f"data: {WORD}\n\ndata: [DONE]\n\n".encode(), headers={"Content-Type": "text/event-stream"})
EMPTY = Answer({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, status=429)


@pytest.fixture
def told(monkeypatch, capsys):
    """told(check, …) → what the report prints of one check: its line, and below it the remedy or note."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):  # the test sets its own
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def report(check, ask=False):
        monkeypatch.setattr(doctor, "CHECKS", [check])
        fine = doctor.report(ask)
        said = " ".join(capsys.readouterr().out.split())
        assert fine == (not said.startswith("!")) and "cret" not in said, "a password or key is never shown"
        return said

    return report


def run(*command, **more):
    """A command in the checkout, with the settings of this test."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, **more)


@pytest.mark.parametrize(
    ("profile", "free", "disk", "said"),
    [
        ("laptop", 64, 1e12, "✓ training"),
        ("laptop", 0.1, 1e12, "! training .* close other programs"),
        ("paper-7b", 16, 1e12, "! training .* BAIZE_PROFILE=laptop"),
        ("laptop", 64, 1e8, "! machine .* BAIZE_RUNS"),
    ],
)
def test_what_a_profile_takes_is_compared_with_what_there_is(monkeypatch, told, profile, free, disk, said):
    monkeypatch.setenv("BAIZE_PROFILE", profile)
    monkeypatch.setattr(memory, "memory_gib", lambda: (64, free))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=disk))
    assert re.search(said, told(doctor.machine if "machine" in said else doctor.training))


def test_windows_path():
    for folder, said in (
        ("C:\\" + "course\\" * 30, "too long"),
        (r"C:\Users\ann\OneDrive - School\baize", "OneDrive"),
        (r"C:\Users\Zoë\baize", "letters"),
        (r"\\server\students\ann\baize", "network share"),
    ):
        assert said in doctor.windows_trouble(PureWindowsPath(folder))
    assert not doctor.windows_trouble(PureWindowsPath(r"C:\Users\Ann Lee\course (2)\baize"))


def test_colab_reset_takes_the_runs_of_the_machine(told, monkeypatch):
    assert told(doctor.colab) == ""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert "--drive" in told(doctor.colab)
    monkeypatch.setattr(common, "runs", lambda: Path("/content/drive/MyDrive/baize/colab"))
    assert "--drive" in told(doctor.colab), "Drive is not mounted"
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    assert "your Drive: a reset does not touch them" in told(doctor.colab)
    wanted = ["openai>=999", "ipywidgets>=999", "no-such-package>=1", "tqdm>=4", 'absent; extra == "x"']
    assert doctor.unmet(wanted) == ["openai>=999", "no-such-package>=1"], "Colab's front end is Colab's"
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    assert "openai>=999" in (said := told(doctor.packages)) and "set-up cell" in said


def test_another_python_is_told_before_anything_else_can_fail():
    code = "import sys; sys.version_info = (3, 9, 18, 'final', 0); import baize_nb.doctor"
    last = run("-c", code).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: The course needs Python 3.11 or newer; this is 3.9.")
    # one that finds the course's files but has neither the course nor its packages installed
    ended = run("-S", "-m", "baize_nb.doctor", env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "! course          not installed" in ended.stdout and "Kernel → Change Kernel" in ended.stdout
    assert "ModuleNotFoundError: No module named" in ended.stdout


BUILD = """
class cuda:
    is_available = staticmethod(lambda: {gpu!r} is not None)
    get_device_name = staticmethod(lambda number: {gpu!r})
class version:
    cuda = "13.0"
__version__ = "2.13.0+cu130"
"""


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "apt-get install libgomp1"),
        ("import no_such_part_of_torch", "Install it anew"),
        ("import os; os._exit(3)", "exit code 3"),
        (BUILD.format(gpu=None), "· torch 2.13.0+cu130, no GPU: the course runs on the processor → A build for"),
        (BUILD.format(gpu="T4"), "✓ torch 2.13.0+cu130, GPU T4"),
    ],
)
def test_wrong_torch(tmp_path, monkeypatch, told, module, said):
    (tmp_path / "torch.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert said in told(doctor.torch)


@pytest.mark.parametrize(
    ("proxies", "said"),
    [
        ({}, "✓ proxy none set"),
        ({"HTTP_PROXY": "http://me:secret@school:3128"}, "· proxy school:3128 → Requests to this machine"),
        ({"HTTP_PROXY": "school:3128", "NO_PROXY": "127.0.0.1,localhost"}, "✓ proxy school:3128"),
        ({"HTTPS_PROXY": "http://me:se#cret@school:3128"}, "✓ proxy school:3128"),
    ],
)
def test_proxies(monkeypatch, told, proxies, said):
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    assert told(doctor.proxy).startswith(said)


@contextlib.contextmanager
def shop(said):
    """An endpoint that lists the model "m" for free and answers a request for words with `said`."""
    models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "us"}]}

    async def answer(path, body):
        return Answer(json.dumps(models).encode()) if path.endswith("/models") else said

    with serving(answer) as url:
        yield url


@pytest.mark.parametrize(
    ("server", "settings", "ask", "said"),
    [
        (answering(401, '{"error": {"message": "Incorrect API key"}}'), {}, False, "! endpoint .* OPENAI_API_KEY"),
        (answering(404), {}, False, "! endpoint .* does not list its models"),
        (answering(404), {"BAIZE_TEACHER_MODEL": "m"}, True, "! endpoint .* up to and with the version"),
        (answering(200, "<html><title>Log in</title></html>"), {}, False, "! endpoint .* lists no model"),
        (contextlib.nullcontext("http://127.0.0.1:9/v1"), {}, False, "! endpoint .* Nothing answers at"),
        (shop(EMPTY), {}, False, "· endpoint answers: .* tiny one"),
        (shop(EMPTY), {}, True, "! endpoint .* no quota left"),
        (shop(REPLY), {}, True, r"✓ endpoint answers: the first model at .* \(BAIZE_TEACHER_URL\)$"),
        (shop(REPLY), {"BAIZE_TEACHER_MODEL": "other"}, True, "· endpoint .* does not list 'other'"),
    ],
    ids=range(9),
)
def test_endpoints(monkeypatch, told, server, settings, ask, said):
    assert told(doctor.endpoint) == "", "the embedded teacher is not asked"
    with server as url:
        for name, value in {"BAIZE_TEACHER_URL": url, "OPENAI_API_KEY": "sk-secret-1", **settings}.items():
            monkeypatch.setenv(name, value)
        shown = told(doctor.endpoint, ask)
    assert re.search(said, shown), shown


def test_damaged_model(tmp_path, monkeypatch, told):
    real, converted = models.cache(), Path(models.embedded())
    assert told(doctor.embedded_model) == "✓ embedded model in the cache, and whole"
    monkeypatch.setattr(models, "cache", lambda: tmp_path)
    assert "not fetched yet" in told(doctor.embedded_model)
    (tmp_path / models.GGUF).write_bytes((real / models.GGUF).read_bytes()[:-1000])
    assert "damaged: its SHA-256" in told(doctor.embedded_model)
    weights = shutil.copytree(converted, tmp_path / converted.name) / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size - 1)
    assert "! embedded model model.safetensors in its converted form is damaged" in told(doctor.embedded_model)


def test_a_check_that_fails_is_a_finding_too_and_the_command_says_all_is_well_by_its_exit_code(told):
    assert "! <lambda> could not be looked at → ZeroDivisionError: " in told(lambda: 1 / 0)
    ended = run("-m", "baize_nb.doctor")
    assert ended.returncode == int("\n! " in ended.stdout), ended.stdout
    assert ended.stdout.startswith("Profile:   ci")
    lines = [line for line in ended.stdout.splitlines() if line[:1] in ("✓", "·", "!")]
    assert {line[2:18].strip() for line in lines if line[0] == "!"} <= {"machine", "training"}, ended.stdout
    names = ["course", "packages", "torch", "machine", "training", "proxy", "embedded model"]
    assert [line[2:18].strip() for line in lines] == names
    assert max(map(len, ended.stdout.splitlines())) <= 110
    ended = run("-m", "baize_nb.doctor", env=os.environ | {"BAIZE_PROFILE": "huge"})
    assert ended.returncode == 1 and "huge" in ended.stderr and "Traceback" not in ended.stderr
