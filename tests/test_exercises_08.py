"""Exercises of notebook 08: its stub gets hints, the solution passes, a plausible mistake gets the hint that fits."""

import math
import runpy

import pytest
from test_exercises import stubs

from baize_nb import notebooks
from baize_nb.checks import scaling

NOTEBOOK = "08_scaling_out"
EXERCISES = {"batch_files": scaling.batch_files, "left": scaling.left, "merge": scaling.merge}
SOLUTIONS = runpy.run_path(str(notebooks.FOLDER / "solutions" / f"{NOTEBOOK}.py"))


def lines_only(requests, line_bytes):
    """Knows one limit."""
    return math.ceil(requests / 50_000)


def bytes_only(requests, line_bytes):
    """Knows the other."""
    return math.ceil(requests / (200_000_000 // line_bytes))


def rounded_down(requests, line_bytes):
    """Forgets the file that is not full."""
    return requests // min(50_000, 200_000_000 // line_bytes)


def cut_lines(requests, line_bytes):
    """Divides all bytes by a file's bytes, as if a line could be cut."""
    return max(math.ceil(requests / 50_000), math.ceil(requests * line_bytes / 200_000_000))


def anything_counts(shards, files):
    """Takes a file that was being written for a whole one."""
    return [name for name in shards if not any(f"{name}.parquet" in file for file in files)]


def loosely(shards, files):
    """Takes a beginning for a name; knows that a file that begins with a dot is not whole."""
    whole = [file for file in files if not file.startswith(".")]
    return [name for name in shards if not any(name in file for file in whole)]


def in_any_order(shards, files):
    return set(SOLUTIONS["left"](shards, files))


def finished(shards, files):
    return [name for name in shards if f"{name}.parquet" in files]


def mean_of_means(parts):
    return SOLUTIONS["merge"](parts) | {"mean_words": sum(p["mean_words"] for p in parts) / len(parts)}


def words_added(parts):
    return SOLUTIONS["merge"](parts) | {"words": sum(len(p["words"]) for p in parts)}


def longest_added(parts):
    return SOLUTIONS["merge"](parts) | {"longest": sum(p["longest"] for p in parts)}


def never_empty(parts):
    sum(p["messages"] * p["mean_words"] for p in parts) / sum(p["messages"] for p in parts)
    return SOLUTIONS["merge"](parts)


def changes_its_input(parts):
    answer = SOLUTIONS["merge"](parts)
    parts[0]["words"].update(answer["words"])
    return answer


MISTAKES = [
    ("batch_files", lines_only, scaling._LINES_ONLY),
    ("batch_files", bytes_only, scaling._BYTES_ONLY),
    ("batch_files", rounded_down, scaling._ROUND_UP),
    ("batch_files", cut_lines, scaling._WHOLE_LINES),
    ("left", anything_counts, scaling._TORN),
    ("left", loosely, scaling._EXACT),
    ("left", in_any_order, scaling._ORDER),
    ("left", finished, scaling._FINISHED),
    ("merge", mean_of_means, scaling._MEAN),
    ("merge", words_added, scaling._WORDS),
    ("merge", longest_added, scaling._LONGEST),
    ("merge", never_empty, scaling._NOTHING),
    ("merge", changes_its_input, scaling._KEEP),
]


def test_every_exercise_of_the_notebook_is_tested_here():
    assert set(stubs(NOTEBOOK)) == set(EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebooks_stub_gets_one_more_hint_each_time_and_the_solution_passes(name, capsys):
    check, stub = EXERCISES[name], stubs(NOTEBOOK)[name]
    check(SOLUTIONS[name])  # hints begin anew
    capsys.readouterr()
    for times in (1, 2, 3, 3):
        assert not check(stub)
        assert capsys.readouterr().out.count("   hint ") == times
    assert check(SOLUTIONS[name])
    assert capsys.readouterr().out == f"✓ {name}: right.\n"


@pytest.mark.parametrize(("name", "wrong", "hint"), MISTAKES, ids=lambda x: getattr(x, "__name__", None))
def test_a_plausible_mistake_gets_the_hint_that_fits(name, wrong, hint, capsys):
    EXERCISES[name](SOLUTIONS[name])  # hints begin anew
    capsys.readouterr()
    assert not EXERCISES[name](wrong)
    assert f"   hint 1: {hint}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_an_error_of_the_students_is_a_sentence_with_a_hint(name, capsys):
    assert not EXERCISES[name](lambda *given: [].pop())
    said = capsys.readouterr().out
    assert "IndexError" in said and "hint 1: " in said
