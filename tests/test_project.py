"""The final project: the blocks of its page run in order, as a student pastes them, on a folder shaped like MedQuAD."""

import ast
import asyncio
import inspect
import re

import pytest
import run_notebooks

from baize_nb import common

PAGE = (run_notebooks.FOLDER / "PROJECT.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
PLACES = ("the knee", "the ear", "the skin", "the lungs")
DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="{id}" source="S" url="http://example.org"><Focus>Pain in {place}</Focus><QAPairs>
<QAPair pid="1"><Question qid="1" qtype="x">What can I do about pain in {place}?</Question>
<Answer>Rest {place} for some days, and see a doctor when the pain does not go away.</Answer></QAPair>
<QAPair pid="2"><Question qid="2" qtype="x">Is pain in {place} common ?</Question><Answer></Answer></QAPair>
</QAPairs></Document>"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of a student: two sources in medquad/, four documents each, and a folder of runs."""
    for source in ("1_A_QA", "2_B_QA"):
        (tmp_path / "medquad" / source).mkdir(parents=True)
        for number, place in enumerate(PLACES):
            text = DOCUMENT.format(id=number, place=f"{place} {'at night' if source[0] == '1' else 'after sport'}")
            (tmp_path / "medquad" / source / f"{number}.xml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path / "runs"))
    return tmp_path


def run(block, names):
    """Run a block as a notebook's cell, top-level await and all."""
    code = compile(block, "PROJECT.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def test_the_project_can_be_done_by_its_page(folder, capsys):
    names = {}
    for block in BLOCKS:
        run(block, names)
    said = capsys.readouterr().out
    assert all(seed.reference for seed in names["questions"])
    assert len(names["mine"]) == 8 and {seed.source for seed in names["mine"]} == {"1_A_QA", "2_B_QA"}
    assert "free" in said or "$0" in said
    assert re.search(r"with a key: .*\$\d", said)
    assert names["run"].loss_after < names["run"].loss_before
    assert len(names["replies"]["before"]) == len(names["replies"]["after"]) == len(names["heldout"]) > 0
    runs = common.runs()
    for name in ("seeds.jsonl", "corpus.jsonl", "train.jsonl", "train.card.md", "heldout.jsonl", "adapter"):
        assert (runs / name).exists(), name
    assert "CC BY 4.0" in (runs / "train.card.md").read_text(encoding="utf-8")
    assert names["made"].stat().st_size > 10**8
