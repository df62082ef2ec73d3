"""Seeds: every reader and every fault it may meet, what a fair sample is, the file between notebooks 01 and 02."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import common, plots, seeds
from baize_nb.common import CourseError
from baize_nb.plots import seeds as figures

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pool():
    """All bundled seeds."""
    return [s for source in seeds.BUNDLED for s in seeds.load(source)]


@pytest.fixture
def write(tmp_path):
    """Makes a file: text as UTF-8, bytes as they are, anything else as JSON lines; returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(path, **options):
    return [s.text for s in seeds.load(path, **options)]


def made(**sizes):
    """A pool with so many seeds per source."""
    return [seeds.Seed(f"{s}-{i}", f"{s} {i}?", s, "test") for s, n in sizes.items() for i in range(n)]


def per_source(items):
    return dict(Counter(s.source for s in items))


def test_bundled_sources_are_whole_and_ours(pool):
    assert len({s.id for s in pool}) == len({s.text.casefold() for s in pool}) == 4 * 240
    assert {(s.source, s.license) for s in pool} == {(f"{source}-style", "Apache-2.0") for source in seeds.BUNDLED}
    assert all(s.text == s.text.strip() and s.topic for s in pool)
    assert all(bool(s.reference) == (s.source == "medquad-style") for s in pool)


# Files of one's own.

LAKE = ["What is a lake?", "What is a pond?"]
TABLE = "id,question\n1,What is a lake?\n2,What is a pond?\n"
FILES = [  # (name, content, texts, what is said to be left out)
    ("a.txt", "\ufeffWhat is a lake?\r\n\r\n  What is a pond?  \r\n", LAKE, ""),
    ("a.TXT", "What is a lake?\rWhat is a pond?".encode("utf-16"), LAKE, ""),
    ("a.txt", "1. What is a lake?\n2) What is a pond?", LAKE, ""),
    ("a.txt", "- What is a lake?\n\n\u2022 What is a pond?", LAKE, ""),
    ("a.txt", "1. What is a lake?\nIs it 3.5\u2028m deep?", ["1. What is a lake?", "Is it 3.5\u2028m deep?"], ""),
    ("a.txt", "Caf\u00e9?\nCafe\u0301?\nWHY  me?\nWhy me?\n", ["Caf\u00e9?", "WHY  me?"], "repeated texts (2)"),
    *[("a.csv", TABLE.replace(",", mark), LAKE, "") for mark in ",;\t|"],
    ("a.csv", TABLE.replace(",", "\t").replace("\n", "\r").encode("utf-16"), LAKE, ""),
    ("a.csv", "sep=;\r\n" + TABLE.replace(",", ";"), LAKE, ""),
    ("a.csv", '"Long, not?";Question\n1;What, a lake?', ["What, a lake?"], ""),
    ("a.csv", 'ID,Question\n7,"a, b\r\nand ""c""?"\n8,d?', ['a, b\nand "c"?', "d?"], ""),
    ("a.csv", "question\nWhat, then, is a lake?\n42\n", ["What, then, is a lake?", "42"], ""),
    ("a.csv", 'id,text\n1,Is 5" deep?\n2,"Lake" is what?\n3,"Say \\"a, b\\"!"\n',
     ['Is 5" deep?', '"Lake" is what?', 'Say "a, b"!'], ""),
    ("a.csv", f"text,body\nWhat is a lake?,{'x' * 200_000}\n", LAKE[:1], ""),
    ("a.csv", TABLE + ",\n3, \n4\n", LAKE, "rows without text (2)"),
    ("a.csv", 'id,text\n1,"What?\n2,"How, then?"\n3,Who, me?\n', ["How, then?"],
     "unreadable (2), first a.csv:2: a quotation mark is opened and not closed. Close it"),
    ("quora_duplicate_questions.tsv", 'id\tqid1\tquestion1\tquestion2\n0\t1\tWhat is a lake?\tx\n'
     '1\t3\t"How is ""lake"" said?"\ty\n2\t5\t""\tz\n', [LAKE[0], 'How is "lake" said?'], "rows without text (1)"),
    ("alpaca_data.json", json.dumps([{"instruction": "Sum up.", "input": "Rain fell.", "output": "Rain."},
     {"instruction": "Sing.", "input": "", "output": "La."}], indent=4), ["Sum up.\n\nRain fell.", "Sing."], ""),
    ("a.jsonl", '[{"text": "a?"}, {"text": "b?"}]', ["a?", "b?"], ""),
    ("a.json", '{"version": 2, "data": [{"text": "a?"}, {"text": "b?"}]}', ["a?", "b?"], ""),
    ("a.json", '[\n{"text": "a?"},\n{"text": "b "c"?"},\n{"text": "d?"}\n]', ["a?", "d?"],
     "unreadable (1), first a.json:3: not JSON"),
    ("a.jsonl", '{"text": "a?"}\n\n{"text": "b}\n["c"]\n{"text": "d?"}', ["a?", "d?"],
     "unreadable (1), first a.jsonl:3: not JSON"),
    ("a.jsonl", '{"text": 5}\n{"text": null}\n{"text": NaN}\n{"text": {}}\n{"text": "\\ud83d"}\n{"\\ud83d": 1}\n'
     '{"text": "a?"}\n{"text": "b?", "n": ' + "9" * 5000 + "}\n" + "[" * 100_000 + "\n{\"text\": \"c?\"}", ["a?", "c?"],
     "rows without text (2), unreadable (5), first a.jsonl:1: 'text' holds no text, but 5"),
    ("a.jsonl", [{"text": "a", "id": "x", "source": "s"}, {"text": "b", "id": "x", "source": "s"}], ["a"],
     "first a.jsonl:2: the id 'x' was used at a.jsonl:1 already"),
    ("Posts.xml", '<?xml version="1.0"?><posts>\n<row Id="1" PostTypeId="1" Title="A &lt;T&gt; list?" Tags="|java|"/>'
     '<row Id="2" PostTypeId="2" ParentId="1"/>\n</posts>', ["A <T> list?"], "posts that are no questions (1)"),
    ("Posts.xml", '<posts><row Id="1" PostTypeId="1" Title="A?"/>\n<row Id="2" Pos', ["A?"], "Posts.xml:2: broken XML"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "found", "left_out"), FILES, ids=range(len(FILES)))
def test_a_file_as_people_have_it_gives_its_seeds_and_says_what_it_leaves_out(
    write, name, content, found, left_out, capsys
):
    assert texts(write(name, content)) == found
    said = capsys.readouterr().out
    assert left_out in said and len(said.splitlines()) == bool(left_out)


FAULTS = [  # (name, content, options, sentence)
    ("f.jsonl", '{"text": "b}\n', {}, r"f\.jsonl:1: not JSON"),
    ("f.jsonl", [{"topic": "b"}], {}, r"f\.jsonl:1: there is no column called .*'topic'.*column="),
    ("f.jsonl", "\n \n", {}, r"f\.jsonl is empty\. Put at least one"),
    ("f.txt", "Why?\nCafé?\n".encode("cp1252"), {}, r"f\.txt:2: this is not UTF-8\. It looks like cp1252 \('Café\?'\)"),
    ("f.csv", "sep=;\ntext\n", {}, "f holds no seeds"),
    ("f.csv", '"text\nWhy?\n', {}, r"f\.csv:1: a quotation mark is opened"),
    ("f.csv", "text,text\nWhy?,How?\n", {}, r"f\.csv:1: two columns are called 'text'\. Rename"),
    ("f.csv", "\nfrage\nWas?\n", {}, r"f\.csv:2, the header: there is no column called text.*'frage'.*column="),
    ("f.csv", "text\nWhy?\n", {"column": "Frage"}, "no column 'Frage'.*'text'"),
    ("f.parquet", "text", {}, r"f\.parquet: not a Parquet file"),
    ("f.docx", "Why?", {}, r"f\.docx: cannot read \.docx\. Use \.txt"),
    ("f.xml", "<html/>", {}, r"f\.xml: expected <Document> at the top, found <html>"),
    ("f.xml", '<?xml version="1.0" encoding="klingon"?><Document/>', {}, r"f\.xml:1: broken XML"),
    ("f/README.md", "x", {}, "holds no .xml files"),
]


@pytest.mark.parametrize(("name", "content", "options", "sentence"), FAULTS, ids=range(len(FAULTS)))
def test_a_file_without_seeds_names_line_fault_and_remedy(write, tmp_path, name, content, options, sentence):
    path = write(name, content)
    with pytest.raises(CourseError, match=sentence) as caught:
        seeds.load(path.parent if name.startswith("f/") else path, **options)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("source", ["qoura", "Why is the sea salty? " * 20, "~nobody-of-that-name/x", "missing.csv"])
def test_an_unknown_source_is_told_the_known_ones(source):
    with pytest.raises(CourseError, match=r"no source or file called .*Bundled: quora, stackoverflow, medquad"):
        seeds.load(source)


def test_name_license_encoding_and_limit_are_what_the_caller_says(write):
    path = write("a.jsonl", [{"id": "1", "text": "Why?", "source": "theirs", "license": "MIT"}])
    (kept,), (renamed,) = seeds.load(path), seeds.load(path, name="mine", license="CC0")
    assert (kept.id, kept.source, kept.license) == ("1", "theirs", "MIT")
    assert (renamed.source, renamed.license) == ("mine", "CC0") and renamed.id.startswith("mine-")
    path = write("b.txt", "\n".join(f"Is it {i} °C?" for i in range(100)).encode("cp1252"))
    some = texts(str(path), encoding="cp1252", limit=7)
    assert len(some) == 7 and some == texts(path, encoding="cp1252", limit=7) != texts(path, encoding="cp1252")[:7]
    assert {(s.source, s.license, s.topic) for s in seeds.load(path, encoding="cp1252")} == {("b", "unknown", "")}


def test_ids_stay_the_same_when_a_file_grows(write):
    before = seeds.load(write("q.txt", "One?\nTwo?\n"))
    after = seeds.load(write("q.txt", "Zero?\nOne?\nHalf?\nTwo?\n"))
    assert {s.id for s in before} < {s.id for s in after} and len({s.id for s in after}) == 4


def test_parquet(tmp_path, capsys):
    import pandas

    path = tmp_path / "p.parquet"
    rows = {"title": ["One?", "Two?", None], "topic": ["t", None, ""], "reference": [["a", "b"], [], []]}
    pandas.DataFrame(rows).to_parquet(path)
    assert [(s.text, s.topic) for s in seeds.load(path)] == [("One?", "t"), ("Two?", "")]
    assert "p: 2 seeds; left out: rows without text (1)" in capsys.readouterr().out


def test_of_two_the_same_the_one_with_an_answer_is_kept(write):
    rows = [
        {"text": "Why?"},
        {"text": "How?"},
        {"text": "why?", "reference": "So."},
        {"text": "Why?", "reference": "No."},
    ]
    assert [(s.text, s.reference) for s in seeds.load(write("r.jsonl", rows))] == [("why?", "So."), ("How?", "")]


# MedQuAD.

PAIR = '<QAPair pid="{n}"><Question qid="{n}" qtype="x">{q}</Question><Answer>{a}</Answer></QAPair>'


def document(focus, *pairs, root="Document"):
    """A MedQuAD document in XML, of (question, answer) pairs."""
    inner = "".join(PAIR.format(n=n, q=q, a=a) for n, (q, a) in enumerate(pairs, 1))
    return f"<{root} id='1'><!-- c --><Focus>{focus}</Focus><QAPairs>{inner}</QAPairs></{root}>"


def test_medquad_is_read_and_cleaned_in_all_its_schemas_and_one_bad_file_costs_no_other(write, tmp_path, capsys):
    spots = "Spots &amp; sores.\n       \n  Often&#39;s mild. "
    third = (
        '<doc docid="7" corpus="N"><doctitle-focus>Warts</doctitle-focus><umls><cui/></umls><qaPairs><pair pid="1">'
        '<question qid="1" qtype="x">What are Warts ?</question><answer>Small <b>lumps</b>.'
        "</answer></pair></qaPairs></doc>"
    )
    for name, content in {
        "1_A/2.xml": document("Acne", ("What is (are) Acne ?", spots), ("Who has\n Acne ? ?", "")),
        "1_A/1.xml": document("Gout", ("what is (are)  ACNE ?", "")),
        "2_B/1.xml": document("Mumps"),
        "2_B/2.xml": document("", ("What is (are)  ?", "It."), ("can it spread?", "Yes.")),
        "2_B/3.xml": document("Lice", ("How to treat Lice ?", "Comb."), root="DiseaseFile"),
        "2_B/._3.xml": b"\x00not XML",
        "2_B/4.xml": "<Document>\n<Focus>A</Focus>\n<QAPairs>",
        "6_C/1.xml": third,
    }.items():
        write(name, content)
    found = {s.text: s for s in seeds.load(tmp_path)}
    asked = ["What is (are) Acne?", "Who has Acne?", "can it spread?", "How to treat Lice?", "What are Warts?"]
    assert list(found) == asked
    first, last = found["What is (are) Acne?"], found["What are Warts?"]
    assert (first.topic, first.source, first.license) == ("Acne", "medquad", "CC BY 4.0")
    assert first.reference == "Spots & sores.\nOften's mild." and found["Who has Acne?"].reference == ""
    assert (last.topic, last.reference) == ("Warts", "Small lumps.")
    said = capsys.readouterr().out
    for part in ("repeated texts (1)", "without questions (1)", "about nothing (1)", "first 4.xml:3: broken XML"):
        assert part in said


# The hub. `datasets` itself takes a folder of that name in the working folder for the data set: no network, no fake.


@pytest.fixture
def hub(tmp_path, monkeypatch, write):
    """A data set that `datasets` finds under the id acme/questions."""
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"Question": f"Number {i}?" if i else "", "Topic": "n", "source": "x", "id": i} for i in range(20)]
    write("acme/questions/train.jsonl", rows)


def test_a_data_set_is_loaded_by_its_id(hub, capsys):
    found = seeds.load("hub:acme/questions", license="CC0")
    assert [s.text for s in found] == [f"Number {i}?" for i in range(1, 20)]
    assert {(s.source, s.license, s.topic) for s in found} == {("questions", "CC0", "n")}
    assert "rows without text (1)" in capsys.readouterr().out
    some = texts("hub:acme/questions", limit=6)
    assert 5 <= len(some) <= 6 and some == texts("hub:acme/questions", limit=6)
    assert some != [f"Number {i}?" for i in range(1, len(some) + 1)]
    with pytest.raises(CourseError, match=r"no column 'title'.*'question'.*column="):
        seeds.load("hub:acme/questions", column="title")
    with pytest.raises(CourseError, match=r"Could not load acme/questions from the hub: .*nix.*Check the id"):
        seeds.load("hub:acme/questions:nix")
    with pytest.raises(CourseError, match=r"'quora' is no data set's id\. Write hub:namespace/name"):
        seeds.load("hub:quora")


# Sampling.


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.data())
def test_every_beginning_of_a_sample_is_as_even_as_can_be(sizes, data):
    items = made(**{f"s{i}": size for i, size in enumerate(sizes)})
    n = data.draw(st.integers(0, len(items)))
    number = data.draw(st.integers(0, 5))
    found = seeds.sample(data.draw(st.permutations(items)), n, seed=number)
    assert found == seeds.sample(items, n, seed=number)
    assert len(found) == len(set(found)) == n and set(found) <= set(items)
    assert found == seeds.sample(items, len(items), seed=number)[:n]
    counts = per_source(found)
    for i, size in enumerate(sizes):  # nobody has two fewer than another, unless that is all there is
        mine = counts.get(f"s{i}", 0)
        assert mine == size or mine >= max(counts.values(), default=0) - 1


def test_a_short_source_gives_all_it_has_and_no_source_is_always_first():
    assert per_source(seeds.sample(made(a=240, b=240, c=30), 120)) == {"a": 45, "b": 45, "c": 30}
    items = made(a=5, b=5, c=5)
    assert {seeds.sample(items, 1, seed=number)[0].source for number in range(20)} == {"a", "b", "c"}
    with pytest.raises(CourseError, match=r"asked for 16 seeds of 15.*load more"):
        seeds.sample(items, 16)


def test_a_sample_is_the_same_in_every_process_and_leaves_the_global_generator_alone(pool):
    state = random.getstate()
    said = " ".join(s.id for s in seeds.sample(pool, 40))
    assert random.getstate() == state
    code = """
import sys
from baize_nb import seeds
pool = [s for name in seeds.BUNDLED for s in seeds.load(name)]
print(*(s.id for s in seeds.sample(pool, 40)))
print({"torch", "datasets"} & set(sys.modules))
seeds.load("hub:acme/nowhere")
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = [sys.executable, "-c", code]
    run = subprocess.run(run, capture_output=True, text=True, cwd=REPO, env=environment, timeout=120)
    assert run.stdout == f"{said}\nset()\n"
    assert "CourseError: Could not load acme/nowhere from the hub" in run.stderr
    assert "use a bundled source" in run.stderr, "without a network the bundled sources are named"


# The file between the notebooks.


def test_written_seeds_come_back_with_a_manifest(tmp_path, pool):
    sampled = seeds.sample(pool, 10)
    source = common.DATA / "seeds" / "quora.jsonl"
    path = seeds.write(sampled, tmp_path / "seeds.jsonl", sources=[source], seed=0)
    assert seeds.read(path) == sampled
    manifest = json.loads((tmp_path / "seeds.jsonl.manifest.json").read_text(encoding="utf-8"))
    assert manifest["seeds"] == 10 and manifest["per_source"] == per_source(sampled) and manifest["seed"] == 0
    assert manifest["sources"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(CourseError, match=r"2 ids occur twice, 'a-0' first"):
        seeds.write(made(a=2) * 2, tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


# Figures.


def test_a_shown_figure_has_its_words(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    figure = figures.lengths({"a": [1, 2, 3]})
    plots.show(figure, alt='Short & "sweet"')
    assert shown[0]["text/plain"] == 'Short & "sweet"'
    assert 'alt="Short &amp; &quot;sweet&quot;"' in shown[0]["text/html"]
    with pytest.raises(ValueError, match="alt text"):
        plots.show(figure, alt=" ")
    assert plots.png(figure) == plots.png(figure)
