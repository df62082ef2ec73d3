"""The driver: order, reuse, and what it says when something goes wrong. Real kernels, tiny notebooks."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import course
import nbformat
import pytest
import run_notebooks
from filelock import FileLock

from baize_nb import common


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty runs/ci of this test alone; the working folder is the test's, too."""
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return common.runs()


@pytest.fixture
def run(folder, capsys):
    """The driver: (exit code, what it printed, what it complained)."""

    def run(*paths):
        code = course.main([str(path) for path in paths])
        return code, *capsys.readouterr()

    return run


def notebook(name, *cells):
    """A notebook file with these code cells, after one of prose."""
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "no-such-kernel", "display_name": "?"}})
    made.cells = [nbformat.v4.new_markdown_cell("# Title"), *(nbformat.v4.new_code_cell(c) for c in cells)]
    nbformat.write(made, name)
    return Path(name).absolute()


def output(path):
    """The first output of an executed copy."""
    return nbformat.read(common.runs() / "notebooks" / path.name, as_version=4).cells[1].outputs[0]


def test_executes_copies_and_reuses_them(run, monkeypatch):
    monkeypatch.setenv("BAIZE_RUNS", "runs")  # relative: the same place for the driver and its kernels
    told = "import sys\nfrom baize_nb import common\nprint(common.runs(), sys.executable)"
    first, second = notebook("1_a.ipynb", told), notebook("2_b.ipynb", "6 * 7")
    source = second.read_bytes()
    code, said, complaints = run(first, second)
    assert code == 0 and complaints == "" and "[1/2] 1_a … " in said and "[2/2] 2_b … " in said
    assert output(first).text.split() == [str(Path("runs/ci").absolute()), sys.executable]
    assert output(second).data["text/plain"] == "42" and second.read_bytes() == source
    notebook("2_b.ipynb", "6 * 8")
    _, said, _ = run(first, second)
    assert "[1/2] 1_a … done before" in said and "[2/2] 2_b … done before" not in said
    assert output(second).data["text/plain"] == "48"


def test_failing_cell_is_named_and_its_copy_kept(run, folder):
    bad, never = notebook("2_bad.ipynb", "x = 1", "y = 0\nx / y"), notebook("3_never.ipynb", "x = 1")
    code, said, complaints = run(bad, never)
    assert code == 1 and "3_never" not in said and "failed after" in said
    assert "2_bad stopped at code cell 2 (`y = 0`): ZeroDivisionError: division by zero" in complaints
    assert "make lab PROFILE=ci NOTEBOOK=runs/ci/notebooks/2_bad.ipynb" in complaints
    assert "run the same command again" in complaints
    copy = nbformat.read(folder / "notebooks/2_bad.ipynb", as_version=4)
    assert copy.cells[2].outputs[0].ename == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("from baize_nb.common import CourseError\nraise CourseError('Line 3 is broken.')", "): Line 3 is broken.\n"),
        ("import os\nos._exit(1)", "(`import os`): its Python process died"),
        ("import time\ntime.sleep(600)", "ran for more than"),
    ],
)
def test_other_ends_of_a_cell(run, monkeypatch, cell, said):
    monkeypatch.setitem(course.CELL_SECONDS, "ci", 3)
    code, _, complaints = run(notebook("1.ipynb", cell))
    assert code == 1 and said in complaints and "CourseError:" not in complaints


def test_bad_input_is_one_sentence(run, folder, monkeypatch):
    Path("broken.ipynb").write_text('{"cells": [')
    with FileLock(folder / ".course.lock"):
        assert "Another run of the course" in run(notebook("1.ipynb", "1"))[2]
    for path, said in (("missing.ipynb", "No such file or directory"), ("broken.ipynb", "is no whole notebook")):
        code, _, complaints = run(path)
        assert code == 1 and f"{path}" in complaints and said in complaints
    monkeypatch.setenv("BAIZE_PROFILE", "huge")
    assert "BAIZE_PROFILE is 'huge'" in run("1.ipynb")[2]


def test_ctrl_c_keeps_what_was_finished_and_tells_the_cell(folder):
    first, mark = notebook("1_a.ipynb", "1"), Path("mark").absolute()
    slow = notebook(
        "2_b.ipynb",
        f"import pathlib, time\nmark = pathlib.Path({str(mark)!r})\n"
        "try:\n    mark.write_text('began')\n    time.sleep(300)\nfinally:\n    mark.write_text('closed')",
    )
    command = [sys.executable, course.__file__, first, slow]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (mark.exists() and mark.read_text()):  # the test's own time limit ends it
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "Stopped; what was finished is kept. Run the same command to go on."
    assert mark.read_text() == "closed" and "stopped after" in out
    assert course.finished(folder / "notebooks/1_a.ipynb", course.fingerprint(first))


def test_stale_when_what_it_reads_or_wrote_changes_or_another_teacher_is_asked(folder, monkeypatch):
    def finish(path):
        state = nbformat.v4.new_notebook(metadata={"baize": {"fingerprint": course.fingerprint(path)}})
        run_notebooks.write(state, folder / "notebooks" / path.name)

    def up_to_date(path):
        return course.finished(folder / "notebooks" / path.name, course.fingerprint(path))

    tune, talk = notebook("04_lora_finetuning.ipynb", "1"), notebook("02_self_chat.ipynb", "1")
    for name in ("train.jsonl", "heldout.jsonl", "corpus.jsonl", "adapter/adapter_config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("one\n")
    finish(tune), finish(talk)
    assert up_to_date(tune) and up_to_date(talk)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert up_to_date(tune) and not up_to_date(talk)
    finish(talk)
    assert not any("sk-secret" in copy.read_text() for copy in folder.glob("notebooks/*"))
    (folder / "train.jsonl").write_text("two\n")
    assert not up_to_date(tune)
    finish(tune), shutil.rmtree(folder / "adapter")
    assert not up_to_date(tune)


def test_summary_tells_what_is_there(folder):
    assert course.summary(folder) == []
    (folder / "corpus.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
    (folder / "adapter").mkdir()
    (folder / "adapter.manifest.json").write_text(json.dumps({"run": {"loss_before": 1.3712, "loss_after": 1.1}}))
    answers = {"question": "What is gout?", "before": "", "own format": "Gout.", "after": "A kind\nof arthritis."}
    (folder / "before_after.json").write_text(json.dumps(answers))
    told = "\n".join(course.summary(folder))
    assert "runs/ci/corpus.jsonl (2 dialogues, 24 bytes)" in told and "Adapter: runs/ci/adapter" in told
    assert "1.371 → 1.100" in told and "Before:     (nothing)" in told and "After:      A kind of arthritis." in told
    assert told.index("Question:") < told.index("Before:") < told.index("Own format: Gout.") < told.index("After:")
    for name in [*course.READS, *course.WRITES, *course.LEAVES_THE_TEACHER_ALONE]:
        assert (run_notebooks.FOLDER / f"{name}.ipynb").is_file()
