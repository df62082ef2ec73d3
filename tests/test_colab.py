"""The set-up for Colab: what it installs and leaves alone, and where keys come from. Colab itself was never at hand."""

import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import colab
import pytest

ROOT = Path(__file__).resolve().parent.parent

NEEDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_only_what_is_missing_or_too_old_is_installed():
    installed = {"openai": "1.99.0", "pandas": "2.2.2", "peft": "0.18.0", "transformers": "5.1.0.dev0"}
    wanted = ["openai>=2", "pandas>=2.2", "peft>=0.18", "transformers>=5", "rensa>=0.5"]
    assert colab.missing(wanted, installed) == ["openai>=2", "rensa>=0.5"]


def test_torch_numpy_and_the_front_end_are_never_installed():
    named = " ".join(colab.missing(NEEDS, {}))
    assert "xllamacpp" in named and "transformers" in named
    assert not any(name in named for name in (*colab.HELD, *colab.FRONT_END))


def test_nothing_is_lacking_here():
    assert colab.missing(NEEDS, colab.versions()) == []


def test_what_is_held_while_pip_works(monkeypatch):
    """First all the rest at its version; when pip finds no way, torch and numpy alone."""
    asked = []
    monkeypatch.setattr(colab, "pip", lambda option, pins, *what: asked.append((option, pins, what)) or len(asked) < 2)
    colab.install(["openai>=2"], {"openai": "1.0", "numpy": "2.0", "torch": "2.6.0+cu124", "rich": "13.0"})
    assert asked == [
        ("-c", "numpy==2.0\nrich==13.0\ntorch==2.6.0+cu124\n", ("openai>=2",)),
        ("-c", "numpy==2.0\ntorch==2.6.0+cu124\n", ("openai>=2",)),
    ]


def test_a_failed_installation_is_told(monkeypatch):
    monkeypatch.setattr(colab, "pip", lambda *_: 1)
    with pytest.raises(SystemExit, match="Could not install openai"):
        colab.install(["openai>=2"], {})


@pytest.fixture
def userdata(monkeypatch):
    """A module of the shape of google.colab.userdata, with two secrets; one of them may not be read."""
    module = types.ModuleType("google.colab.userdata")
    for name in ("SecretNotFoundError", "NotebookAccessError", "TimeoutException"):
        setattr(module, name, type(name, (Exception,), {}))
    secrets = {"OPENAI_API_KEY": "sk-secret-123", "BAIZE_TEACHER_MODEL": "large"}

    def get(name):
        if name == "BAIZE_TEACHER_URL":
            raise module.NotebookAccessError
        if name not in secrets:
            raise module.SecretNotFoundError
        return secrets[name]

    module.get = get
    package = types.ModuleType("google.colab")
    package.userdata = module
    monkeypatch.setitem(sys.modules, "google.colab", package)
    for name in colab.SECRETS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
    return module


def test_keys_come_from_secrets_and_are_not_shown(userdata, capsys):
    colab.take_secrets()
    assert os.environ["OPENAI_API_KEY"] == "sk-secret-123" and os.environ["BAIZE_TEACHER_MODEL"] == "large"
    assert not os.environ["BAIZE_TEACHER_URL"]
    said = capsys.readouterr().out
    assert said.splitlines() == ["OPENAI_API_KEY: from Colab's secrets", "BAIZE_TEACHER_MODEL: from Colab's secrets"]


def test_the_environment_goes_before_secrets(userdata, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    colab.take_secrets()
    assert os.environ["OPENAI_API_KEY"] == "sk-of-mine"


def test_a_second_run_installs_nothing_and_changes_nothing(userdata, monkeypatch, capfd):
    monkeypatch.setattr(colab, "pip", lambda *what: pytest.fail(f"pip was asked for {what}"))
    before = list(sys.path)
    colab.main()
    colab.main()
    assert sys.path == before and "Installing" not in capfd.readouterr().out


def test_a_kernel_that_runs_already_finds_the_course():
    """An editable install is seen by the next Python only; the set-up cell's own must find the package too."""
    code = (
        f"import sys; sys.path = [p for p in sys.path if p != {str(ROOT)!r}] + ['tools']; import colab\n"
        "colab.take_secrets = lambda: None; colab.main(); from baize_nb import doctor; print(doctor.__file__)"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == str(ROOT / "baize_nb" / "doctor.py"), run.stderr
