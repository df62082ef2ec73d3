"""Corpora of others: every record comes back as a dialogue or is told, whatever shape and state the file is in."""

import gzip
import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import dialogue

from baize_nb import corpus, transcript
from baize_nb.common import CourseError

TEXT = st.text(min_size=1, max_size=40).filter(str.strip) | st.sampled_from(
    [" a\r\nb\u2028c ", '"}, {"', "]}\n[", "\ufeff猫\x85", "[Human] a", "a\n[|AI|] b", "\\u0041", "\x01"]
)
GOOD = {"instruction": "a", "output": "b"}


def save(path, *lines):
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


def said(loaded):
    return [[m["content"] for m in d.messages] for d in loaded.dialogues]


# ---- there and back


@st.composite
def corpora(draw):
    texts = st.text(max_size=10)
    fields = st.fixed_dictionaries(dict.fromkeys(("seed", "license", "strategy", "model", "end"), texts))
    usage = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.booleans(), max_size=2)
    pairs = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)
    made = []
    for i, (said, facts, used) in enumerate(draw(st.lists(st.tuples(pairs, fields, usage), max_size=4))):
        texts = [text for pair in said for text in pair]
        made.append(dialogue(*texts, id=f"d-{i}", source="own", usage=used, **facts))
        if i % 2:
            made[-1].messages[-1]["trimmed"] = True
    return made


@settings(deadline=None, max_examples=40)
@given(corpora())
def test_what_is_written_comes_back(dialogues):
    with tempfile.TemporaryDirectory() as folder:
        for write, name in ((corpus.write, "x.jsonl"), (corpus.write_parquet, "x.parquet")):
            path = write(dialogues, Path(folder) / name)
            assert list(corpus.stream(path)) == corpus.load(path).dialogues == dialogues
        back = corpus.load(corpus.write_sharegpt(dialogues, Path(folder) / "x.json"))
        assert [d.id for d in back.dialogues] == [d.id for d in dialogues]
        assert said(back) == [[m["content"] for m in d.messages] for d in dialogues]
        inputs = [{"topic": d.seed, "input": transcript.render(d.messages) + "[|Human|] "} for d in dialogues]
        (Path(folder) / "baize.json").write_text(json.dumps(inputs))
        back = corpus.load(Path(folder) / "baize.json")
        stripped = [[m["content"].strip() for m in d.messages] for d in dialogues]
        assert said(back) == stripped and [d.seed for d in back.dialogues] == [d.seed for d in dialogues]


# ---- formats

PAIR = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
HTML = '<div class="markdown"><p>A <strong>lake</strong> &amp; more:</p><ul><li>x</li><li>y</li></ul>'
HTML += "<pre><div><span>python</span><button>Copy code</button></div><code>a &lt; b</code></pre></div>"
SHAPES = [  # record, messages, what is told of the rest
    ({"messages": PAIR}, ["a", "b"], ""),
    ({"conversation": [{"human": "a", "assistant": "b"}]}, ["a", "b"], ""),
    ({"conversations": [{"from": "Human", "value": "a"}, {"from": "GPT", "value": "b"}]}, ["a", "b"], ""),
    ({"conversations": [{"from": "gpt", "value": "x"}, *PAIR]}, ["a", "b"], "an answer without a question"),
    ({"messages": [*PAIR, {"role": "system", "content": "s"}, *PAIR]}, ["a", "b", "a", "b"], "a system message"),
    ({"messages": [*PAIR, PAIR[0], {"role": "assistant", "content": ""}]}, ["a", "b"], "an empty turn"),
    ({"messages": [{"role": "user", "content": "c"}, *PAIR]}, ["a", "b"], "a question without an answer"),
    ({"messages": [*PAIR, PAIR[0], {"role": "tool", "content": "d"}, PAIR[1]]}, ["a", "b"], "a turn of 'tool'"),
    ({"messages": [{"role": "user", "content": [{"text": "a"}, {"type": "image"}]}, PAIR[1]]}, ["a", "b"], "no text"),
    ({"messages": [PAIR[0] | {"weight": 1}, PAIR[1]]}, ["a", "b"], "fields of messages left out: weight"),
    (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": HTML}]},
        ["a", "A **lake** & more:\n\n- x\n- y\n\n```python\na < b\n```"],
        "HTML made text",
    ),
    ({"topic": "t", "input": "x\n[|Human|] Hi\n[|AI|] Yes\n[|AI|] No\n[|Human|] "}, ["Hi", "Yes"], "faulty parts"),
    ({"instruction": "Add.", "input": "1, 2", "output": 3}, ["Add.\n\n1, 2", "3"], "a number taken as text"),
    ({"instruction": "a", "input": float("nan"), "output": "b", "history": [["c", "d"]]}, ["c", "d", "a", "b"], ""),
    ({"instruction": "a", "context": "in b", "response": "c", "category": "qa"}, ["a\n\nin b", "c"], "category"),
    ({"prompt": PAIR[:1], "completion": PAIR[1:]}, ["a", "b"], ""),
    (PAIR, ["a", "b"], ""),
    ({"messages": [["Human", "a"], ["Assistant", "b"]]}, ["a", "b"], ""),
    ({"messages": PAIR, "system": "s"}, ["a", "b"], "a system message"),
    ({"messages": PAIR, "half \ud83d": 1}, ["a", "b"], r"fields left out: half \ud83d"),
    ({"messages": [{"from": "user", "content": None, "value": "a"}, PAIR[1]]}, ["a", "b"], ""),
]


@pytest.mark.parametrize(("record", "expected", "told"), SHAPES)
def test_shapes_in_the_wild_keep_their_whole_exchanges_and_tell_the_rest(tmp_path, record, expected, told):
    loaded = corpus.load(save(tmp_path / "x.jsonl", record), source="s", license="l")
    assert said(loaded) == [expected] and loaded.unreadable == []
    assert (loaded.dialogues[0].source, loaded.dialogues[0].license) == ("s", "l")
    assert bool(loaded.notes) == bool(told) and told in "\n".join(loaded.notes)


def test_a_dialogue_keeps_its_id_and_says_how_it_was_read(tmp_path):
    talk = [{"from": who, "value": who} for who in ("human", "gpt", "human")]
    lines = [{"id": 7, "conversations": talk}, GOOD, {"id": "7", "messages": PAIR}]
    loaded = corpus.load(save(tmp_path / "mixed.jsonl", *lines))
    assert [d.id for d in loaded.dialogues] == ["7", "mixed-000002", "7#3"]
    assert loaded.dialogues[0].end == "the last human turn has no answer"
    assert loaded.formats == {"sharegpt": 1, "alpaca": 1, "messages": 1}
    assert "3 dialogues (1 sharegpt, 1 alpaca, 1 messages), 0 unreadable" in str(loaded)
    assert "a last question without an answer left out: 1\n  an id met again" in str(loaded)


FAULTS = [
    ("not json", "not JSON"),
    ("[1]", "a int, not an object"),
    ('{"a": 1, "b": 2}', 'no format has these fields: a, b. Name them: load(path, user="…"'),
    ('{"messages": 3}', "its messages is a int, not a list"),
    ('{"messages": [{"role": "user", "content": "x"}]}', "no question with an answer (a last question"),
    ('{"messages": [{"role": "user", "content": {"a": 1}}, {"role": "assistant", "content": true}]}', "is a dict"),
    ('{"topic": "t", "input": "no marks"}', "no role markers"),
    ('{"instruction": null, "output": "y"}', "no question with an answer"),
    ('{"instruction": "x", "output": ["y", "z"]}', "its output is a list, not a text"),
    ('{"instruction": "x", "output": "y", "history": "[]"}', "its history is no list"),
    ('{"instruction": "half \\ud83d", "output": "y"}', r"'\ud83d' is half a character"),
    ('{"instruction": 1' + "0" * 5000 + ', "output": "y"}', "not JSON (Exceeds the limit"),
    ('{"a":' * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("line", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_a_record_that_is_no_dialogue_is_named_and_set_aside(tmp_path, line, reason):
    loaded = corpus.load(save(tmp_path / "x.jsonl", GOOD, "", line, GOOD))
    assert len(loaded.dialogues) == 2 and len(loaded.unreadable) == 1
    assert loaded.unreadable[0].startswith("entry 2 (line 3): ") and reason in loaded.unreadable[0]
    aside = json.loads(loaded.aside.read_text())
    assert loaded.aside.name == "x.jsonl.unreadable.jsonl" and reason in aside["reason"]
    assert aside["record"] == (line if "JSON" in reason or "deeply" in reason else json.loads(line.strip("[]")))
    assert "line 3" in str(loaded) and "unreadable.jsonl" in str(loaded)


def test_columns_are_named_for_formats_of_ones_own(tmp_path):
    path = save(tmp_path / "x.jsonl", {"q": "a", "more": "b", "a": "c"}, {"q": "a"})
    loaded = corpus.load(path, user=("q", "more"), assistant="a")
    assert said(loaded) == [["a\n\nb", "c"]] and loaded.unreadable[0].endswith("no a")
    talks = [["a", "b"], [["a", "b"]], json.dumps(PAIR), "\n\nHuman: a\n\nAssistant: b"]
    for value in [*talks, "### Human: a\n### Assistant: b"]:
        assert said(corpus.load(save(path, {"talk": value}), messages="talk")) == [["a", "b"]]
    with pytest.raises(CourseError, match="both user and assistant"):
        corpus.load(path, user="q")
    table = save(tmp_path / "x.csv", "q;a", '"one\ntwo";b')
    assert said(corpus.load(table, user="q", assistant="a")) == [["one\ntwo", "b"]]


# ---- files

TALKS = [
    {"id": f"d{i}", "conversations": [{"from": "human", "value": f"Why {i}?"}, {"from": "gpt", "value": "So."}]}
    for i in range(6)
]
LIST, PRETTY = json.dumps(TALKS), json.dumps(TALKS, indent=1)
BROKEN = {  # content, dialogues, records that are told
    "an unescaped quote": (LIST.replace("Why 2?", 'Why "2"?'), 5, 1),
    "an unescaped quote, pretty": (PRETTY.replace("Why 2?", 'Why "2"?'), 5, 1),
    "a missing quote": (LIST.replace('Why 2?"', "Why 2?"), 5, 1),
    "a missing bracket": (LIST.replace('"}]}, {"id": "d3', '"}}, {"id": "d3'), 5, 1),
    "the first": (LIST.replace("Why 0?", 'Why "0"?'), 5, 1),
    "the last": (LIST.replace("Why 5?", 'Why "5"?'), 5, 1),
    "two in a row": (LIST.replace("Why 2?", 'Why "2"?').replace("Why 3?", "Why \\x?"), 4, 2),
    "a raw line end": (PRETTY.replace("Why 2?", "Why\n2?"), 6, 0),
    "a missing comma": (LIST.replace(', {"id": "d3', ' {"id": "d3'), 6, 0),
    "a word of Python": (LIST.replace('"Why 2?"', "None"), 5, 1),
    "two lists": (LIST + "\n" + LIST.replace('"d', '"e'), 12, 0),
    "words behind": (PRETTY + "\nDone.", 6, 1),
    "no end": (LIST[:-1], 6, 1),
    "cut inside": (LIST[:-30], 5, 1),
    "inside an object": (json.dumps({"version": 1, "train": TALKS[:4], "test": TALKS[4:]}), 6, 0),
    "inside an object, broken": (json.dumps({"v": "1", "data": TALKS}).replace("Why 2?", 'Why "2"?'), 5, 1),
    "two inside, broken": (json.dumps({"a": TALKS[:3], "b": TALKS[3:]}, indent=1).replace("4?", '"4"?'), 5, 1),
    "by name": (json.dumps({d["id"]: d for d in TALKS}, indent=2), 6, 0),
    "one behind the other": ("\n".join(json.dumps(d, indent=1) for d in TALKS), 6, 0),
    "lines, the first broken": ("\n".join(map(json.dumps, TALKS)).replace("Why 0?", 'Why "0"?'), 5, 1),
    "one behind the other on a line": ("".join(map(json.dumps, TALKS)), 6, 0),
    "two on a later line, and words": ("{}\n{} {}, so\n{}\n{}\n{}".format(*map(json.dumps, TALKS)), 6, 1),
    "lines that end with CR": ("\r".join(map(json.dumps, TALKS)), 6, 0),
    "a list a line, then none": (f"{json.dumps(TALKS[:5])}\n{json.dumps(TALKS[5])}", 6, 0),
    "a conversation a line": ("\n".join(json.dumps(d["conversations"]) for d in TALKS), 6, 0),
}


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_costs_its_entry_and_everything_is_told(tmp_path, fault, name):
    content, kept, told = BROKEN[fault]
    (tmp_path / name).write_text(content)
    loaded = corpus.load(tmp_path / name)
    assert (len(loaded.dialogues), len(loaded.unreadable)) == (kept, told), str(loaded)
    assert all("not JSON" in fault or "cut short" in fault for fault in loaded.unreadable)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("as_list", [True, False])
def test_encodings_are_told_by_the_first_bytes(tmp_path, encoding, as_list):
    record = json.dumps({"instruction": "Käse 猫", "output": "b"}, ensure_ascii=False)
    text = f"[{record}]" if as_list else f"{record}\n\ufeff{record}"
    (tmp_path / "x.json").write_bytes(text.encode(encoding))
    assert said(corpus.load(tmp_path / "x.json"))[0] == ["Käse 猫", "b"]
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(text.encode(encoding)))
    assert len(corpus.load(tmp_path / "x.json.gz").dialogues) == 2 - as_list


def test_bytes_that_are_no_utf_8_cost_their_record_and_are_named(tmp_path):
    lines = [f'{{"instruction": "{said}", "output": "b"}}\n' for said in ("a", "café", "\0")]
    (tmp_path / "x.jsonl").write_bytes("".join(lines).encode("cp1252"))
    loaded = corpus.load(tmp_path / "x.jsonl")
    assert said(loaded) == [["a", "b"], ["\0", "b"]] and "'é'. Save the file as UTF-8" in loaded.unreadable[0]
    assert said(corpus.load(tmp_path / "x.jsonl", encoding="cp1252"))[1] == ["café", "b"]


TABLES = [  # name, content, what is said, what is wrong
    ("x.csv", 'instruction,output\nq0,"a0\nq1,a1\nq2,"a2"\n', ["q1", "q2"], "(line 2): a quotation mark is opened"),
    ("x.csv", 'instruction,output\n"q\n\n0",a0\n"q\n1",\nq2,a2\n', ["q\n\n0", "q2"], "(line 5): no question with"),
    ("x.csv", "sep=;\ninstruction;output\nq0;a0\n", ["q0"], ""),
    ("x.csv", 'instruction;output;"a, b, c, d"\nq0;a0;1\n', ["q0"], ""),
    ("x.csv", 'instruction,output\n"q \\"x\\" y",a0\n', ['q "x" y'], ""),
    ("x.csv", "instruction,output\nq0, and more,a0\nq1,a1,\n", ["q1"], "(line 2): more fields"),
    ("x.csv.gz", "instruction,output\nq0,a0\n", ["q0"], ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "asked", "fault"), TABLES, ids=range(len(TABLES)))
def test_a_row_of_a_table_comes_back_or_is_told(tmp_path, name, content, asked, fault):
    content = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    loaded = corpus.load(tmp_path / name)
    assert [d.messages[0]["content"] for d in loaded.dialogues] == asked
    assert len(loaded.unreadable) == bool(fault) and fault in "".join(loaded.unreadable)


def test_a_value_that_python_lacks_costs_its_row(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    days = pa.array([10**9, 1], pa.int32()).cast(pa.date32())
    parquet.write_table(pa.table({"instruction": ["a", "b"], "output": ["c", "d"], "day": days}), tmp_path / "x")
    loaded = corpus.load(tmp_path / "x")
    assert said(loaded) == [["b", "d"]] and loaded.unreadable[0].startswith("row 1: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "Cannot read"),
        (gzip.compress(b'{"a": 1}', mtime=0)[:10] + b"\xff" * 20, "Cannot read"),
        ("\ufeffq\ud83d ".encode("utf-16-le", "surrogatepass"), "Cannot read"),
        (b"name,text\n", "not a list of dialogues"),
        (b"PAR1 and no more", "damaged parquet"),
        (b"PK\x03\x04", "not a list of dialogues"),
    ],
)
def test_files_that_are_no_corpus_are_refused_in_a_sentence(tmp_path, content, reason):
    path = tmp_path / "x.dat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CourseError, match=rf"x\.dat.*{reason}|{reason}.*x\.dat"):
        corpus.load(path)


def test_a_stream_does_not_hold_the_file(tmp_path):
    dialogues = (dialogue(*["why? " * 50, "so. " * 50] * 3, id=f"d-{i}") for i in range(8000))
    path = corpus.write(dialogues, tmp_path / "x.jsonl")
    tracemalloc.start()
    assert sum(d.turns for d in corpus.stream(path)) == 24_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


def test_a_pass_that_is_broken_off_leaves_nothing_behind(tmp_path):
    passing = iter(corpus.stream(save(tmp_path / "x.jsonl", "7", GOOD, GOOD)))
    next(passing)
    passing.close()
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]
    assert corpus.load(save(tmp_path / "empty.json", " ")).dialogues == []
