"""The wheelhouse: built from two tiny packages, installed from without an index; and what the real one would hold."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import wheelhouse

from baize_nb import models

ROOT = Path(__file__).resolve().parent.parent


def wheel(folder, name, version, needs=()):
    """The smallest wheel: one module that holds its version."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def network(tmp_path, monkeypatch):
    """What pip finds: a folder in the place of an index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for version in ("1.0", "2.0"):
        wheel(shelf, "tinylib", version)
    wheel(shelf, "tinycourse", "1.0", needs=["tinylib"])
    wheel(shelf, "tinymodel", "0.1", needs=["a-package-that-nobody-has"])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    (tmp_path / "constraints.txt").write_text("tinylib==1.0\n")
    return shelf


def names(folder):
    return sorted(path.name.split("-py3")[0] for path in folder.glob("*.whl"))


def test_wheels_by_constraints_and_the_model_alone(network, tmp_path, monkeypatch):
    """Then, with the shelf gone, everything installs from the folder."""
    folder = tmp_path / "wheelhouse"
    assert wheelhouse.build(folder, ["tinycourse"], tmp_path / "constraints.txt", ["tinymodel==0.1"]) == 0
    assert names(folder) == ["tinycourse-1.0", "tinylib-1.0", "tinymodel-0.1"]
    shutil.rmtree(network)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path / "room"), "tinycourse"]
    assert subprocess.run(command).returncode == 0
    assert (tmp_path / "room" / "tinylib.py").read_text() == "version = '1.0'\n"


def test_what_lies_there_is_preferred(network, tmp_path):
    """A build put there by hand, such as PyTorch's for the CPU, wins over the plain one of the same version."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    wheel(folder, "tinylib", "1.0+cpu")
    assert wheelhouse.build(folder, ["tinycourse"], tmp_path / "constraints.txt", ["tinymodel==0.1"]) == 0
    assert names(folder) == ["tinycourse-1.0", "tinylib-1.0+cpu", "tinymodel-0.1"]


def test_a_missing_wheel_is_told(network, tmp_path, capfd):
    assert wheelhouse.build(tmp_path / "w", ["tinycourse", "nosuch"], tmp_path / "constraints.txt", ["tinymodel"]) != 0
    assert "nosuch" in capfd.readouterr().err


def test_the_real_one_holds_what_the_course_installs(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(wheelhouse, "download", lambda requirements, *rest: asked.append((requirements, rest)) or 0)
    assert wheelhouse.main([str(tmp_path / "w")]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (requirements, options), (model, alone) = asked
    assert set(project["project"]["dependencies"]) | {"hatchling", "editables"} == set(requirements)
    assert options[1:] == ("-c", str(ROOT / "constraints.txt"))
    assert model[0] == models.WHEEL and len(model) == 2 and alone[1:] == ("--no-deps",)
    assert "WHEELHOUSE=" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_takes_a_wheelhouse_and_asks_no_index(tmp_path):
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT}/Makefile\nshow:\n\t@echo $$PIP_NO_INDEX $$PIP_FIND_LINKS\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
    run = ["make", "-s", "-f", str(makefile), "show"]
    shown = [
        subprocess.run([*run, *more], cwd=ROOT, env=env, capture_output=True, text=True).stdout.split()
        for more in ([], ["WHEELHOUSE=wheels"])
    ]
    assert shown == [[], ["1", str(ROOT / "wheels")]]
