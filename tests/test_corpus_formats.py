"""Formats of others: what is written comes back, and what can't be read is named and set aside."""

import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import corpus
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue, records

TEXT = st.text(min_size=1, max_size=40).filter(str.strip) | st.sampled_from(
    [" a\r\nb\u2028c ", '"}, {"', "]}\n[", "\ufeff猫\x85", "[Human] a", "a\n[|AI|] b", "\\u0041", "\x00"]
)
SAID = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)
USAGE = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.booleans(), max_size=2)


def talk(pairs, name="d-1", **fields):
    messages = [{"role": r, "content": c} for pair in pairs for r, c in zip(("user", "assistant"), pair, strict=True)]
    return Dialogue(name, messages=messages, **fields)


@st.composite
def corpora(draw):
    texts = st.text(max_size=10)
    fields = st.fixed_dictionaries(dict.fromkeys(("seed", "license", "strategy", "model", "end"), texts))
    drawn = draw(st.lists(st.tuples(SAID, fields, USAGE), max_size=4))
    return [talk(s, f"d-{i}", source="own", usage=u, **f) for i, (s, f, u) in enumerate(drawn)]


def there_and_back(dialogues, write, name):
    with tempfile.TemporaryDirectory() as folder:
        path = write(dialogues, Path(folder) / name)
        loaded = corpus.load(path)
        assert loaded.unreadable == [] and loaded.aside is None
        assert list(corpus.stream(path)) == loaded.dialogues
        return loaded.dialogues


def messages(dialogues):
    return [d.messages for d in dialogues]


# ---- round trips


@settings(deadline=None, max_examples=40)
@given(corpora())
def test_our_own_files_and_parquet_bring_everything_back(dialogues):
    assert there_and_back(dialogues, corpus.write, "x.jsonl") == dialogues
    assert there_and_back(dialogues, corpus.write_parquet, "x.parquet") == dialogues


@settings(deadline=None, max_examples=40)
@given(corpora())
def test_messages_sharegpt_and_alpaca_bring_back_every_character(dialogues):
    assert messages(there_and_back(dialogues, corpus.write_messages, "x.jsonl")) == messages(dialogues)
    assert messages(there_and_back(dialogues, corpus.write_alpaca, "x.json")) == messages(dialogues)
    back = there_and_back(dialogues, corpus.write_sharegpt, "x.json")
    assert [(d.id, d.messages) for d in back] == [(d.id, d.messages) for d in dialogues]


@settings(deadline=None, max_examples=40)
@given(corpora())
def test_baize_brings_back_seed_and_messages(dialogues):
    back = there_and_back(dialogues, corpus.write_baize, "x.json")
    stripped = [[{"role": m["role"], "content": m["content"].strip()} for m in d.messages] for d in dialogues]
    assert [(d.seed, d.messages, d.end) for d in back] == [
        (d.seed, m, "") for d, m in zip(dialogues, stripped, strict=True)
    ]


def test_row_groups_and_more_rows_than_one_batch(tmp_path, monkeypatch):
    from pyarrow import parquet

    monkeypatch.setattr(corpus.formats, "_ROW_GROUP", 700)
    dialogues = [talk([("a?", f"{i}")], f"d-{i}", source="s") for i in range(1500)]
    path = corpus.write_parquet(iter(dialogues), tmp_path / "x.parquet")
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert corpus.load(path).dialogues == dialogues


# ---- what others write


def test_formats_are_told_apart_record_by_record(tmp_path):
    path = tmp_path / "mixed.jsonl"
    said = [("system", "s"), ("Human", "a"), ("chatgpt", "b"), ("human", "c")]
    lines = [
        {"id": 7, "conversations": [{"from": who, "value": text} for who, text in said]},
        {"instruction": "Add.", "input": "1, 2", "output": "3", "text": "…"},
        {"topic": "t", "input": "x\n[|Human|] Hi\n[|AI|] Yes\n[|Human|] "},
        {"prompt_id": "p", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    loaded = corpus.load(path, source="s", license="l")
    assert loaded.formats == {"sharegpt": 1, "alpaca": 1, "baize": 1, "messages": 1}
    assert [d.id for d in loaded.dialogues] == ["7", "mixed-000002", "mixed-000003", "mixed-000004"]
    assert [d.messages[0]["content"] for d in loaded.dialogues] == ["a", "Add.\n\n1, 2", "Hi", "a"]
    assert {(d.source, d.license) for d in loaded.dialogues} == {("s", "l")}
    assert loaded.dialogues[0].end == "the last human turn has no answer"
    assert loaded.notes == {
        "a system message left out": 1,
        "a last question without an answer left out": 1,
        "fields left out: text": 1,
        "fields left out: prompt_id": 1,
    }
    assert "a system message left out: 1" in str(loaded)


FAULTS = [
    ("not json", "not JSON"),
    ('{"messages": [', "not JSON"),
    ("[1]", "a list, not an object"),
    ('{"a": 1, "b": 2}', "no format has these fields: a, b"),
    ('{"messages": "x"}', "its messages are a str, not a list"),
    ('{"messages": ["x"]}', "message 0 is a str, not an object"),
    ('{"messages": []}', "no messages"),
    ('{"messages": [{"role": "tool", "content": "x"}]}', "message 0 is from 'tool'"),
    ('{"messages": [{"role": "user", "content": "x"}]}', "no answer"),
    ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": null}]}', "message 1"),
    ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]}', "is empty"),
    ('{"conversations": [{"from": "gpt", "value": "x"}]}', "expected 'user'"),
    ('{"topic": "t", "input": 3}', "its input is a int"),
    ('{"topic": "t", "input": "no marks"}', "no exchange"),
    ('{"instruction": "x", "output": ""}', "is empty"),
    ('{"instruction": "x", "output": "y", "history": [["a"]]}', "history"),
    ('{"instruction": "half \\ud83d", "output": "y"}', r"'\ud83d' is no character"),
    ("[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("line", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_a_record_that_is_no_dialogue_is_named_and_set_aside(tmp_path, line, reason):
    good = '{"instruction": "a", "output": "b"}'
    path = tmp_path / "x.jsonl"
    path.write_text(f"{good}\n\n{line}\n{good}\n")
    loaded = corpus.load(path)
    assert len(loaded.dialogues) == 2
    assert [u.where for u in loaded.unreadable] == ["line 3"] and reason in loaded.unreadable[0].reason
    aside = json.loads(loaded.aside.read_text())
    assert loaded.aside.name == "x.jsonl.unreadable.jsonl" and reason in aside["reason"]
    assert aside["record"] == (line if "JSON" in reason or "deeply" in reason else json.loads(line))
    assert "line 3" in str(loaded) and "unreadable.jsonl" in str(loaded)


def test_bytes_that_are_no_text_cost_one_line(tmp_path):
    path = tmp_path / "x.jsonl"
    good = b'{"instruction": "a", "output": "b"}\n'
    path.write_bytes(b"\xef\xbb\xbf" + good + b'{"instruction": "caf\xe9", "output": "b"}\n' + good)
    loaded = corpus.load(path)
    assert len(loaded.dialogues) == 2 and "no character" in loaded.unreadable[0].reason


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_a_broken_entry_of_a_list_costs_that_entry(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(records, "_CHUNK", chunk)
    path = tmp_path / "x.json"
    good = '{"instruction": "a\\n\\u00e9\\ud83d\\ude00 }, {", "output": "b"}'
    bad = '{"instruction": "a" "output": "b"}'
    path.write_text(f"[\n{good},\n{bad} ,\n{good}, 12345, {good}\n]\n")
    loaded = corpus.load(path)
    assert [d.messages[0]["content"] for d in loaded.dialogues] == ["a\né😀 }, {"] * 3
    assert [u.where for u in loaded.unreadable] == ["entry 2 (line 3)", "entry 4 (line 4)"]
    assert [json.loads(line)["record"] for line in loaded.aside.open()] == [bad, 12345]


@pytest.mark.parametrize(("end", "reason"), [('{"instruction": "a', "not JSON"), ("", "cut short")])
def test_a_list_that_was_cut_short_says_so(tmp_path, end, reason):
    path = tmp_path / "x.json"
    path.write_text('[{"instruction": "a", "output": "b"},\n' + end)
    loaded = corpus.load(path)
    assert len(loaded.dialogues) == 1
    assert loaded.unreadable[0].number == 2 and reason in loaded.unreadable[0].reason


@settings(deadline=None, max_examples=60)
@given(
    entries=st.lists(st.dictionaries(TEXT, TEXT | st.integers() | st.lists(st.floats(-1, 1)), max_size=3)),
    data=st.data(),
)
def test_the_window_sees_what_json_sees(entries, data):
    indent = data.draw(st.sampled_from([None, 1]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_CHUNK", data.draw(st.integers(1, 50)))
        path = Path(folder) / "x.json"
        path.write_text(json.dumps(entries, indent=indent, ensure_ascii=data.draw(st.booleans())), encoding="utf-8")
        found = list(records.records(path))
    assert [r.value for r in found] == entries and not any(r.fault for r in found)


def test_ids_are_made_different(tmp_path):
    path = tmp_path / "x.jsonl"
    corpus.write([talk([("a", "b")]), talk([("c", "d")])], path)
    loaded = corpus.load(path)
    assert [d.id for d in loaded.dialogues] == ["d-1", "d-1#2"]
    assert loaded.notes == {"an id met again, its place in the file added": 1}


def test_a_format_can_be_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"topic": "t", "instruction": "a", "input": "", "output": "b"}\n')
    assert "no exchange" in corpus.load(path).unreadable[0].reason
    loaded = corpus.load(path, format="alpaca")
    assert loaded.dialogues[0].messages[0]["content"] == "a" and loaded.notes == {"fields left out: topic": 1}
    with pytest.raises(CourseError, match=r"no format 'xml'.*alpaca"):
        corpus.load(path, format="xml")


@pytest.mark.parametrize("content", ["{}", '{\n "a": 1}', "name,text\n", '"x"', "\x00\x01"])
def test_a_file_that_is_no_list_is_refused_whole(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(CourseError, match=r"x\.json: .*not a list"):
        corpus.load(path)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(CourseError, match=r"Cannot read .*none"):
        corpus.load(tmp_path / "none.json")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CourseError, match="damaged parquet"):
        corpus.load(tmp_path / "x.parquet")
    (tmp_path / "empty.json").write_text(" \n")
    assert corpus.load(tmp_path / "empty.json").dialogues == []


def test_a_stream_does_not_hold_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_CHUNK", 1 << 16)
    dialogues = (talk([("why? " * 50, "so. " * 50)] * 3, f"d-{i}") for i in range(3000))
    path = corpus.write_sharegpt(dialogues, tmp_path / "x.json")
    assert path.stat().st_size > 3_000_000
    tracemalloc.start()
    assert sum(d.turns for d in corpus.stream(path)) == 9000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 5


def test_a_pass_that_is_broken_off_leaves_nothing_behind(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('7\n{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": "b"}\n')
    passing = iter(corpus.stream(path))
    next(passing)
    passing.close()
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    for write in (corpus.write_sharegpt, corpus.write_parquet, corpus.write_messages):
        path = write([talk([("a", "b")])], tmp_path / "x")
        before = path.read_bytes()
        with pytest.raises(AttributeError):
            write([talk([("c", "d")]), None], path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["x"]
