"""Profiles, artifacts, errors and the doctor: what everything else stands on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from baize_nb import common, doctor, profiles
from baize_nb.common import CourseError

ROOT = Path(__file__).resolve().parent.parent


def test_unknown_profile_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("BAIZE_PROFILE", "desktop")
    with pytest.raises(CourseError, match=r"'desktop'.*ci, laptop, colab, paper-7b"):
        profiles.current()


def test_paper_profiles_carry_the_paper_settings():
    paper = {size: profiles.get(f"paper-{size}") for size in ("7b", "13b", "30b")}
    assert [p.learning_rate for p in paper.values()] == [2e-4, 1e-4, 5e-5]
    assert [p.micro_batch_size for p in paper.values()] == [32, 16, 8]
    assert {(p.rank, p.alpha, p.batch_size, p.warmup_steps, p.heldout) for p in paper.values()} == {
        (8, 16, 64, 100, 2000)
    }


def test_shipped_artifact_is_used_and_said_aloud(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path))
    assert common.find("train.jsonl") == common.DATA / "corpus" / "train.jsonl"
    assert "using the shipped data/corpus/train.jsonl" in capsys.readouterr().out
    own = common.runs() / "train.jsonl"
    own.write_text("{}\n")
    assert common.find("train.jsonl") == own


def test_artifact_that_is_nowhere_names_its_notebook(monkeypatch, tmp_path):
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path))
    with pytest.raises(CourseError, match="Run notebook 01_seed_sampling first"):
        common.find("seeds.jsonl")


def test_paths_are_shown_without_the_machine(tmp_path):
    assert common.show(ROOT / "data" / "seeds") == "data/seeds"
    assert common.show(Path.home() / "x") == "~/x"
    assert str(tmp_path) not in common.show(tmp_path / "corpus.jsonl")


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from baize_nb import common
common.write_text({str(path)!r}, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
common.write_text({str(path)!r}, "new" * 1000)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0
    assert "unchanged" in run.stderr
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_manifest_names_sources_by_hash(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("abc")
    manifest = json.loads(common.write_manifest(tmp_path / "out.jsonl", "a test", [source], n=3).read_text())
    assert manifest["sources"][0]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest["n"] == 3
    assert manifest["profile"] == "ci"


def test_course_error_shows_one_sentence_in_a_notebook():
    assert CourseError("Do this.")._render_traceback_() == ["CourseError: Do this."]


def test_settings_prints_profile_and_teacher_but_no_key(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    doctor.settings()
    out = capsys.readouterr().out
    assert "Profile:   ci" in out
    assert "api.openai.com" in out
    assert "sk-secret-123" not in out


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_runs_folder_that_cannot_be_written_says_so(monkeypatch, tmp_path):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path / "x"))
    with pytest.raises(CourseError, match="Set BAIZE_RUNS"):
        common.runs()


TEXT = "Why?\nIs Käse cheese?\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        *[(TEXT.encode(name), None) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")],
        (TEXT.replace("\n", "\r").encode(), None),
        (TEXT.replace("\n", "\r\n").encode(), None),
        (TEXT.encode("cp1252"), "cp1252"),
    ],
)
def test_text_is_read_in_the_encodings_that_people_save(content, encoding, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert common.read_text(path, encoding) == TEXT


@pytest.mark.parametrize(
    ("content", "encoding", "sentence"),
    [
        (
            TEXT.encode("cp1252"),
            None,
            r"a\.txt:2: this is not UTF-8\. It looks like cp1252 \('Is Käse.*encoding='cp1252'",
        ),
        ("日本語".encode("euc-jp"), None, r"a\.txt:1: this is not UTF-8\. Save it as UTF-8, or pass encoding="),
        ("Käse".encode("utf-16")[:-1], None, "not UTF-16"),
        (b"\x81", "cp1252", "not CP1252"),
        (b"a", "klingon", "no encoding 'klingon'"),
    ],
)
def test_text_in_another_encoding_is_named_with_its_line(content, encoding, sentence, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(CourseError, match=sentence):
        common.read_text(path, encoding)
