"""The driver: order, reuse, and what it says when something goes wrong. Real kernels, tiny notebooks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import course
import nbformat
import pytest
import run_notebooks

from baize_nb import common

COMMAND = [sys.executable, course.__file__]


def notebook(path, *cells):
    """A notebook file with these code cells, after one of prose."""
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "no-such-kernel", "display_name": "?"}})
    made.cells = [nbformat.v4.new_markdown_cell("# Title"), *(nbformat.v4.new_code_cell(c) for c in cells)]
    nbformat.write(made, path)
    return path


def run(*paths, tmp_path, **options):
    """The driver as a person starts it; returns the finished process."""
    environment = {**os.environ, "BAIZE_RUNS": str(tmp_path / "runs"), **options.pop("env", {})}
    return subprocess.run([*COMMAND, *map(str, paths)], env=environment, capture_output=True, text=True, **options)


def copy_of(path, tmp_path):
    """The executed copy of a notebook."""
    return nbformat.read(tmp_path / "runs" / "ci" / "notebooks" / path.name, as_version=4)


def test_executes_copies_here_and_reuses_them(tmp_path):
    first = notebook(tmp_path / "1_a.ipynb", "import os, sys\nprint(os.getcwd(), sys.executable)")
    second = notebook(tmp_path / "2_b.ipynb", "6 * 7")
    source = second.read_bytes()
    done = run(first, second, tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[1/2] 1_a … " in done.stdout and "[2/2] 2_b … " in done.stdout
    assert copy_of(first, tmp_path).cells[1].outputs[0].text.split() == [str(tmp_path), sys.executable]
    assert copy_of(second, tmp_path).cells[1].outputs[0].data["text/plain"] == "42"
    assert second.read_bytes() == source and done.stderr == ""
    notebook(second, "6 * 8")
    again = run(first, second, tmp_path=tmp_path)
    assert "[1/2] 1_a … done before" in again.stdout and "[2/2] 2_b … done before" not in again.stdout
    assert copy_of(second, tmp_path).cells[1].outputs[0].data["text/plain"] == "48"


def test_failing_cell_is_named_and_its_copy_kept(tmp_path):
    good = notebook(tmp_path / "1_good.ipynb", "x = 1")
    bad = notebook(tmp_path / "2_bad.ipynb", "x = 1", "y = 0\nx / y", "print('never')")
    never = notebook(tmp_path / "3_never.ipynb", "x = 1")
    done = run(good, bad, never, tmp_path=tmp_path)
    assert done.returncode == 1
    assert "2_bad stopped at code cell 2 (`y = 0`): ZeroDivisionError: division by zero" in done.stderr
    assert f"make lab PROFILE=ci NOTEBOOK={tmp_path}/runs/ci/notebooks/2_bad.ipynb" in done.stderr
    assert "run the same command again" in done.stderr and "Traceback" not in done.stderr
    assert "3_never" not in done.stdout
    assert copy_of(bad, tmp_path).cells[2].outputs[0].ename == "ZeroDivisionError"
    assert "1_good … done before" in run(good, bad, tmp_path=tmp_path).stdout


def test_course_error_is_told_as_its_sentence(tmp_path):
    cell = "from baize_nb.common import CourseError\nraise CourseError('Line 3 is broken.')"
    bad = notebook(tmp_path / "1.ipynb", cell)
    done = run(bad, tmp_path=tmp_path)
    assert done.returncode == 1
    assert "): Line 3 is broken.\n" in done.stderr and "CourseError:" not in done.stderr


def test_dead_kernel_is_noticed_at_once(tmp_path):
    dead = notebook(tmp_path / "1.ipynb", "import os", "os._exit(1)")
    started = time.monotonic()
    done = run(dead, tmp_path=tmp_path)
    assert done.returncode == 1 and "code cell 2 (`os._exit(1)`): its Python process died" in done.stderr
    assert time.monotonic() - started < course.CELL_SECONDS["ci"] / 10, "it waited for the cell's time to run out"


def test_cell_that_hangs_is_cut_off():
    hanging = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import time\ntime.sleep(600)")])
    with pytest.raises(run_notebooks.CellFailed, match=r"code cell 1 .*ran for more than"):
        run_notebooks.execute(hanging, ".", limit=2)


@pytest.mark.parametrize(
    ("env", "arguments", "said"),
    [
        ({"BAIZE_PROFILE": "huge"}, [], "BAIZE_PROFILE is 'huge', which is no profile. Set it to one of: ci, laptop"),
        ({}, ["missing.ipynb"], "Cannot read the notebook missing.ipynb (No such file or directory)."),
        ({}, ["broken.ipynb"], "broken.ipynb is no whole notebook."),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, env, arguments, said):
    (tmp_path / "broken.ipynb").write_text('{"cells": [')
    done = run(*(tmp_path / a for a in arguments), tmp_path=tmp_path, env=env)
    assert done.returncode == 1
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_runs_folder_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    done = run(notebook(tmp_path / "1.ipynb", "1"), tmp_path=tmp_path)
    assert done.returncode == 1 and "Set BAIZE_RUNS to a folder of yours." in done.stderr


def test_relative_runs_folder_is_the_same_for_driver_and_kernel(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path = notebook(tmp_path / "1.ipynb", "from baize_nb import common\nprint(common.runs())")
    assert run(path, tmp_path=tmp_path, env={"BAIZE_RUNS": "runs"}, cwd=tmp_path / "elsewhere").returncode == 0
    made = tmp_path / "elsewhere" / "runs" / "ci"
    executed = nbformat.read(made / "notebooks" / "1.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text.strip() == str(made)


def test_full_disk_loses_nothing(tmp_path):
    """A file-size limit stands for the full disk: the write breaks off in the middle with an OSError."""
    resource = pytest.importorskip("resource")
    path = notebook(tmp_path / "1.ipynb", "print('a')")
    assert run(path, tmp_path=tmp_path).returncode == 0
    copy = tmp_path / "runs" / "ci" / "notebooks" / "1.ipynb"
    before = copy.read_bytes()
    notebook(path, "for i in range(20_000):\n    print(i, 'x' * 100)")

    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    done = run(path, tmp_path=tmp_path, preexec_fn=small_files)
    assert done.returncode == 1
    assert "Could not write" in done.stderr and "Free some space" in done.stderr and "Traceback" not in done.stderr
    assert copy.read_bytes() == before and [p.name for p in copy.parent.iterdir()] == ["1.ipynb"]


def test_full_disk_does_not_hide_the_cell_that_failed(tmp_path):
    copies = tmp_path / "runs" / "ci" / "notebooks"
    copies.parent.mkdir(parents=True)
    copies.write_text("a file where the folder should be")
    done = run(notebook(tmp_path / "1.ipynb", "1 / 0"), tmp_path=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "code cell 1 (`1 / 0`): ZeroDivisionError" in done.stderr and "Could not write" in done.stderr


def test_ctrl_c_keeps_what_was_finished_and_tells_the_cell(tmp_path):
    first = notebook(tmp_path / "1_a.ipynb", "1")
    mark = tmp_path / "mark"
    slow = notebook(
        tmp_path / "2_b.ipynb",
        f"import pathlib, time\nmark = pathlib.Path({str(mark)!r})\n"
        "try:\n    mark.write_text('began')\n    time.sleep(300)\nfinally:\n    mark.write_text('closed')",
    )
    environment = {**os.environ, "BAIZE_RUNS": str(tmp_path / "runs")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, first, slow], env=environment, **pipes) as process:
        deadline = time.monotonic() + 120
        while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "Stopped; what was finished is kept. Run the same command to go on."
    assert mark.read_text() == "closed" and "stopped after" in out
    assert "1_a … done before" in run(first, tmp_path=tmp_path).stdout


def test_two_runs_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path / "runs"))
    with course._alone(common.runs()):
        done = run(notebook(tmp_path / "1.ipynb", "1"), tmp_path=tmp_path)
    assert done.returncode == 1 and "Another run of the course" in done.stderr


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty runs/ci of this test alone."""
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path / "runs"))
    return common.runs()


def finish(path):
    """Write the executed copy as the driver leaves it."""
    state = nbformat.v4.new_notebook(metadata={"baize": {"fingerprint": course.fingerprint(path)}})
    copy = common.runs() / "notebooks" / path.name
    run_notebooks.write(state, copy)
    return copy


def up_to_date(path):
    return course._finished(common.runs() / "notebooks" / path.name, course.fingerprint(path))


def test_stale_when_what_it_reads_or_wrote_changes(tmp_path, folder):
    path = notebook(tmp_path / "04_lora_finetuning.ipynb", "1")
    (folder / "train.jsonl").write_text("one\n")
    (folder / "adapter").mkdir()
    finish(path)
    assert up_to_date(path)
    (folder / "train.jsonl").write_text("two\n")
    assert not up_to_date(path)
    finish(path)
    assert up_to_date(path)
    shutil.rmtree(folder / "adapter")
    assert not up_to_date(path)


def test_other_teacher_makes_only_its_users_stale(tmp_path, folder, monkeypatch):
    read = notebook(tmp_path / "03_corpus_inspection.ipynb", "1")
    talk = notebook(tmp_path / "02_self_chat.ipynb", "1")
    for name in ("train.jsonl", "heldout.jsonl", "corpus.jsonl"):
        (folder / name).write_text("{}")
    copies = [finish(path) for path in (read, talk)]
    assert up_to_date(read) and up_to_date(talk)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert up_to_date(read) and not up_to_date(talk)
    finish(talk)
    assert not any("sk-secret" in copy.read_text() for copy in copies)


def test_summary_tells_what_is_there(folder):
    assert course.summary(folder) == []
    (folder / "corpus.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
    (folder / "adapter").mkdir()
    facts = {"run": {"loss_before": 1.3712, "loss_after": 1.1}}
    (folder / "adapter.manifest.json").write_text(json.dumps(facts))
    answers = {"question": "What is gout?", "before": "", "after": "A kind\nof arthritis."}
    (folder / "before_after.json").write_text(json.dumps(answers))
    told = "\n".join(course.summary(folder))
    assert f"{folder}/corpus.jsonl (2 dialogues, 24 bytes)" in told and f"Adapter: {folder}/adapter" in told
    assert "1.371 → 1.100" in told and "Before:   (nothing)" in told and "After:    A kind of arthritis." in told
    assert told.index("Question:") < told.index("Before:") < told.index("After:")


def test_which_notebooks_make_the_course():
    numbers = [path.name[:2] for path in course.files()]
    assert numbers == [f"{n:02}" for n in range(6)]
    assert [path.name[:2] for path in course.files("0[0-8]_*.ipynb")] == [f"{n:02}" for n in range(9)]
    for path in [*course.READS, *course.WRITES, *course.LEAVES_THE_TEACHER_ALONE]:
        assert (run_notebooks.FOLDER / f"{path}.ipynb").is_file()


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.6, "1 m 00 s"), (185, "3 m 05 s"), (3720, "1 h 02 m")])
def test_duration(seconds, said):
    assert common.duration(seconds) == said
