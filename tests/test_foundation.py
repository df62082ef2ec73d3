"""Profiles, artifacts, errors, journals: what everything else stands on. A failed write is tested here, for all."""

import json
import os
import subprocess
import sys

import pytest

from baize_nb import common, profiles
from baize_nb.common import CourseError, Journal


def test_an_unknown_profile_is_told_the_known_ones_and_the_papers_are_the_papers(monkeypatch):
    monkeypatch.setenv("BAIZE_PROFILE", "desktop")
    with pytest.raises(CourseError, match=r"'desktop'.*ci, laptop, colab, paper-7b"):
        profiles.current()
    paper = [profiles.get(f"paper-{size}") for size in ("7b", "13b", "30b")]
    assert [(p.learning_rate, p.micro_batch_size) for p in paper] == [(2e-4, 32), (1e-4, 16), (5e-5, 8)]
    assert {(p.rank, p.alpha, p.batch_size, p.warmup_steps, p.heldout) for p in paper} == {(8, 16, 64, 100, 2000)}


def test_artifacts_are_found_here_or_shipped_or_named_with_their_notebook(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path))
    assert common.find("train.jsonl") == common.DATA / "corpus" / "train.jsonl"
    assert "using the shipped data/corpus/train.jsonl" in capsys.readouterr().out
    own = common.runs() / "train.jsonl"
    own.write_text("{}\n")
    assert common.find("train.jsonl") == own
    with pytest.raises(CourseError, match="Run notebook 01_seed_sampling first"):
        common.find("seeds.jsonl")


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE is POSIX")
def test_full_disk_leaves_old_files_and_whole_lines(tmp_path):
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from baize_nb import common
folder = Path({str(tmp_path)!r})
common.write_text(folder / "a.txt", "old")
with common.Journal(folder / "j.jsonl") as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    for write in (common.write_text, lambda path, text: [journal.append({{"id": str(i)}}) for i in range(1000)]):
        try:
            write(folder / "a.txt", "new" * 1000)
        except common.CourseError as error:
            print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "what was there before is unchanged" in out and "Everything before is kept" in out
    assert (tmp_path / "a.txt").read_text() == "old"
    lines = (tmp_path / "j.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) >= 5 and all(line.endswith("\n") and json.loads(line) for line in lines)
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", "j.jsonl", ".j.jsonl.lock"}


@pytest.mark.parametrize(
    ("content", "kept", "torn"),
    [
        (b'{"id": "a"}\n{"id": "b"}', {"a", "b"}, None),  # an editor that writes no last line end
        (b'{"id": "a"}\n{"id": "b", "te', {"a"}, b'{"id": "b", "te\n'),  # a kill in the middle of a write
        (b'\xef\xbb\xbf{"id": "a"}\r\n{"id": "b"}\r\n', {"a", "b"}, None),  # Notepad
        (b"", set(), None),
    ],
)
def test_a_journal_keeps_every_whole_line(tmp_path, content, kept, torn):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with Journal(path) as journal:
        assert journal.ids() == kept
        journal.append({"id": "new"})
    with Journal(path) as journal:
        assert journal.ids() == kept | {"new"}
    aside = tmp_path / "corpus.jsonl.torn"
    assert (aside.read_bytes() if aside.exists() else None) == torn


@pytest.mark.parametrize("line", ['{"id": "b", ', '{"name": "no id"}', "7"])
def test_a_damaged_line_of_a_journal_is_told_with_file_and_line(tmp_path, line):
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"id": "a"}}\n{line}\n{{"id": "c"}}\n')
    with Journal(path) as journal, pytest.raises(CourseError, match=r"corpus\.jsonl:2 is no line with an id.*Fix or"):
        journal.ids()


def test_second_writer_is_refused(tmp_path):
    path = tmp_path / "corpus.jsonl"
    code = f"from baize_nb.common import Journal\nwith Journal({str(path)!r}): print('open', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        with pytest.raises(CourseError, match="Another process"), Journal(path):
            pass
    finally:
        process.communicate(b"\n")


TEXT = "Why?\nIs Käse cheese?\n"


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_text_is_read_in_the_encodings_that_people_save(name, end, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.replace("\n", end).encode(name))
    assert common.read_text(path, name if name == "cp1252" else None) == TEXT


@pytest.mark.parametrize(
    ("content", "encoding", "sentence"),
    [
        (TEXT.encode("cp1252"), None, r"a\.txt:2: this is not UTF-8\. It looks like cp1252 \('Is Käse.*='cp1252'"),
        ("日本語".encode("euc-jp"), None, r"a\.txt:1: this is not UTF-8\. Save it as UTF-8, or pass encoding="),
        ("Käse".encode("utf-16")[:-1], None, "not UTF-16"),
        (b"\x81", "cp1252", "not CP1252"),
        (b"a", "klingon", "no encoding 'klingon'"),
        (b"a", "rot13", "no encoding 'rot13'"),
    ],
)
def test_text_in_another_encoding_is_named_with_its_line(content, encoding, sentence, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(CourseError, match=sentence):
        common.read_text(path, encoding)
