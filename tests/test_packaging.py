"""pyproject.toml, environment.yml and constraints.txt say the same, and the package declares what it imports."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(lines):
    """{canonical name: Requirement}."""
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def declared(*extras):
    """What pyproject.toml asks for, with these extras."""
    return requirements(sum((PROJECT["optional-dependencies"][e] for e in extras), PROJECT["dependencies"]))


def pins():
    """What constraints.txt pins."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements(line for line in lines if line and not line.startswith("#"))


def test_environment_says_what_pyproject_says():
    text = (ROOT / "environment.yml").read_text()
    items = re.findall(r"^      - (.+)$", text, re.MULTILINE)
    assert [item for item in items if item.startswith("-")] == ["-c constraints.txt", "-e .[test]"]
    listed = requirements(item for item in items if not item.startswith("-"))
    assert {str(r) for r in listed.values()} == {str(r) for r in declared("test").values()}
    python = re.search(r"- python=([\d.]+)", text)[1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)


def test_each_dependency_has_one_exact_pin_within_its_range():
    asked = declared("test", "book")
    assert set(pins()) == set(asked)
    for name, pin in pins().items():
        [exact] = pin.specifier
        assert exact.operator == "==" and "*" not in exact.version, f"{pin} is not exact"
        assert asked[name].specifier.contains(exact.version), f"{pin} is outside {asked[name]}"
    wrong = {n: metadata.version(n) for n, pin in pins().items() if not pin.specifier.contains(metadata.version(n))}
    assert not wrong, "these tests run with other versions than constraints.txt says; run `make test`"


def test_every_import_is_declared():
    """Wherever in a module it stands; relative imports are the package's own."""
    tools, found = {path.stem for path in (ROOT / "tools").glob("*.py")}, set()
    for path in [*(ROOT / "baize_nb").rglob("*.py"), *(ROOT / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    found -= set(sys.stdlib_module_names) | tools | {"baize_nb", "google"}
    providers = metadata.packages_distributions()
    # What transformers, pandas, ipykernel and jupyterlab cannot be without comes with them.
    allowed = {"numpy", "safetensors", "huggingface-hub", "packaging", "ipython", "traitlets", "nbconvert"}
    extras = PROJECT["optional-dependencies"]
    allowed |= set(requirements(PROJECT["dependencies"])) | set(requirements(extras["gpu"] + extras["scale"]))
    assert not {n for n in found if not allowed.intersection(map(canonicalize_name, providers.get(n, [n])))}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_good_python_is_found_and_an_old_one_refused_in_one_sentence(tmp_path):
    command, old = ["sh", ROOT / "tools" / "find_python.sh"], tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run([*command, old], capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert "Python 3.11 or newer" in run.stderr and len(run.stderr.splitlines()) == 1
    run = subprocess.run([*command, sys.executable], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, sys.executable)
