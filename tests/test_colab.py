"""The set-up for Colab: what it installs, removes and leaves alone, and where keys come from."""

import os
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import colab
import pytest
import run_notebooks
import version_check
from nbformat.v4 import new_code_cell, new_notebook, new_output

from baize_nb import common

ROOT = Path(__file__).resolve().parent.parent


def installed(folder, name, version):
    """A package of which nothing but its metadata is there."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_first_version_on_the_path_counts_and_setuptools_own_copies_do_not(tmp_path, monkeypatch):
    installed(tmp_path / "a", "Tiny_Lib", "2.0")
    installed(tmp_path / "b", "tiny-lib", "1.0")
    installed(tmp_path / "setuptools/_vendor", "only-vendored", "1.0")
    folders = [str(tmp_path / name) for name in ("a", "b", "setuptools/_vendor")]
    monkeypatch.setattr(sys, "path", folders + sys.path)
    assert colab.versions()["tiny-lib"] == "2.0" and "only-vendored" not in colab.versions()


@pytest.fixture
def asked(monkeypatch):
    """What pip was asked for: (arguments, text of the constraints). It refuses as often as `refusals` says."""
    asked, refusals = [], []

    def pip(*arguments):
        held = Path(arguments[2]).read_text() if arguments[1] == "-c" else ""
        asked.append((arguments[0], arguments[-1], held))
        return refusals.pop() if refusals else ""

    monkeypatch.setattr(colab, "pip", pip)
    return types.SimpleNamespace(calls=asked, refusals=refusals)


def test_what_is_held_while_pip_works(asked):
    """First all the rest at its version; when pip finds no way, torch and numpy alone; a failure is told."""
    here = {"openai": "1.0", "numpy": "2.0", "torch": "2.6.0+cu124", "rich": "13.0"}
    asked.refusals += ["ResolutionImpossible"]
    colab.install(["openai>=2"], here)
    assert asked.calls == [
        ("install", "openai>=2", "numpy==2.0\nrich==13.0\ntorch==2.6.0+cu124\n"),
        ("install", "openai>=2", "numpy==2.0\ntorch==2.6.0+cu124\n"),
    ]
    asked.refusals += ["No space left", "ResolutionImpossible"]
    with pytest.raises(SystemExit, match=r"No space left\nCould not install openai"):
        colab.install(["openai>=2"], here)


def test_a_torchao_that_peft_cannot_use_is_removed_with_a_word(asked, capsys):
    for others in ({}, {"torchao": "999.0"}, {"torchao": "0.1.0"}):
        colab.remove_torchao({"peft": metadata.version("peft")} | others)
    assert asked.calls == [("uninstall", "torchao", "")]
    assert "Removing torchao 0.1.0: peft wants" in capsys.readouterr().out


@pytest.fixture
def userdata(monkeypatch):
    """A module of the shape of google.colab.userdata, with two secrets; a third may not be read."""
    module = types.ModuleType("google.colab.userdata")
    for name in ("SecretNotFoundError", "NotebookAccessError", "TimeoutException"):
        setattr(module, name, type(name, (Exception,), {}))
    secrets = {"OPENAI_API_KEY": "sk-secret-123", "BAIZE_TEACHER_MODEL": "large"}

    def get(name):
        if name == "BAIZE_TEACHER_URL":
            raise module.NotebookAccessError
        return secrets[name]

    module.get = get
    package = types.ModuleType("google.colab")
    package.userdata = module
    monkeypatch.setitem(sys.modules, "google.colab", package)
    for name in colab.SECRETS:
        monkeypatch.setenv(name, "")
    return module


def test_keys_come_from_secrets_and_are_not_shown_and_the_environment_goes_before(userdata, monkeypatch, capsys):
    colab.take_secrets()
    assert [os.environ[name] for name in colab.SECRETS] == ["sk-secret-123", "", "large"]
    said = ["OPENAI_API_KEY: from Colab's secrets", "BAIZE_TEACHER_MODEL: from Colab's secrets"]
    assert capsys.readouterr().out.splitlines() == said
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-mine")
    colab.take_secrets()
    assert os.environ["OPENAI_API_KEY"] == "sk-of-mine"


def test_secrets_that_do_not_answer_are_asked_for_once(userdata, capsys):
    userdata.get = lambda name: 1 / 0
    colab.take_secrets()
    assert capsys.readouterr().out.count("ZeroDivisionError") == 1


def test_a_second_run_installs_nothing_and_a_kernel_that_runs_already_finds_the_course(userdata, asked, capfd):
    before = list(sys.path)
    colab.main([])
    assert not asked.calls and sys.path == before and "Installing" not in capfd.readouterr().out
    # An editable install is seen by the next Python only; the set-up cell's own must find the package too.
    code = (
        f"import sys; sys.path = [p for p in sys.path if p != {str(ROOT)!r}] + ['tools']; import colab\n"
        "colab.take_secrets = lambda: None; colab.main([]); from baize_nb import doctor; print(doctor.__file__)"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == str(ROOT / "baize_nb/doctor.py"), run.stderr


def test_runs_are_kept_on_drive_where_that_is_asked_for_and_what_is_large_is_not(userdata, asked, monkeypatch):
    mounted = []
    sys.modules["google.colab"].drive = types.SimpleNamespace(mount=mounted.append)
    for name in ("BAIZE_RUNS", "BAIZE_SCRATCH"):
        monkeypatch.setenv(name, "")  # and back as it was, afterwards
        monkeypatch.delenv(name)
    colab.main([])
    assert not mounted and "BAIZE_RUNS" not in os.environ and "BAIZE_SCRATCH" not in os.environ
    colab.main(["--drive"])
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    colab.main(["--drive"])
    assert mounted == ["/content/drive"], "asked once"
    assert os.environ["BAIZE_RUNS"] == "/content/drive/MyDrive/baize"
    assert os.environ["BAIZE_SCRATCH"] == "/content/baize-scratch"


def test_what_can_be_made_anew_goes_to_the_scratch_folder_under_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path / "runs"))
    inside, elsewhere = common.runs() / "sdf" / "adapter.checkpoints", tmp_path / "elsewhere"
    assert common.scratch(inside) == inside
    monkeypatch.setenv("BAIZE_SCRATCH", str(tmp_path / "scratch"))
    assert common.scratch(inside) == tmp_path / "scratch/ci/sdf/adapter.checkpoints"
    assert common.scratch(elsewhere) == elsewhere


def test_a_notebook_that_was_opened_alone_says_which_lines_to_run(userdata, tmp_path, monkeypatch):
    cell = run_notebooks.read(run_notebooks.FOLDER / "00_start_here.ipynb").cells[2].source
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=r"!git clone ADDRESS /content/baize.*%cd /content/baize/notebooks"):
        exec(cell.replace("    %run ../tools/colab.py", "    pass"), {})


def test_what_the_checks_of_other_versions_call_wrong():
    before = {"numpy": "2.1.3", "pandas": "2.2.3", "torchao": "0.1.0", "tqdm": "4.67.3"}
    after = {"numpy": "2.3.0", "tqdm": "4.67.3", "rensa": "0.5.0"}
    assert version_check.changed(before, after) == ["numpy 2.1.3 → 2.3.0", "pandas 2.2.3 → None"]
    said = [("stdout", "fine"), ("stderr", "  3%|  | 1/30 [00:01<00:02, 9.1it/s]\rUserWarning: odd\n\n")]
    outputs = [new_output("stream", name=name, text=text) for name, text in said]
    notebook = new_notebook(cells=[new_code_cell("1"), new_code_cell("2", outputs=outputs)])
    assert version_check.complaints(notebook) == ["cells[1]: UserWarning: odd"]
