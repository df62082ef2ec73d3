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


def written(folder, name, content):
    """The path of a new file: text as UTF-8, bytes as they are."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def made(**sizes):
    """A pool with so many seeds per source."""
    return [seeds.Seed(f"{s}-{i}", f"{s} {i}?", s, "test") for s, n in sizes.items() for i in range(n)]


def per_source(items):
    """{source: number of seeds}."""
    return dict(Counter(s.source for s in items))


# The bundled sources.


@pytest.mark.parametrize("source", seeds.BUNDLED)
def test_bundled_sources_are_whole_and_ours(source, capsys):
    found = seeds.load(source)
    assert len(found) == 240 and capsys.readouterr().out == ""
    assert {(s.source, s.license) for s in found} == {(f"{source}-style", "Apache-2.0")}
    assert all(s.text == s.text.strip() and s.topic and s.id.startswith(source) for s in found)
    assert all(bool(s.reference) == (source == "medquad") for s in found)


def test_bundled_sources_share_no_id_and_no_text(pool):
    assert len({s.id for s in pool}) == len({s.text.casefold() for s in pool}) == 960


# Files of one's own.


def test_a_text_file_is_a_seed_a_line(tmp_path):
    path = written(tmp_path, "my.txt", "\ufeffWhy?\r\n\r\n  How so?  \r\nSeparated\u2028inside?\r\n")
    found = seeds.load(path)
    assert [s.text for s in found] == ["Why?", "How so?", "Separated\u2028inside?"]
    assert {(s.source, s.license, s.topic) for s in found} == {("my", "unknown", "")}
    assert seeds.load(str(path)) == found


def test_name_and_license_are_what_the_caller_says(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"id": "1", "text": "Why?", "source": "theirs", "license": "MIT"}\n')
    (kept,), (renamed,) = seeds.load(path), seeds.load(path, name="mine", license="CC0")
    assert (kept.id, kept.source, kept.license) == ("1", "theirs", "MIT")
    assert (renamed.source, renamed.license) == ("mine", "CC0") and renamed.id.startswith("mine-")


def test_ids_stay_the_same_when_a_file_grows(tmp_path):
    before = seeds.load(written(tmp_path, "q.txt", "One?\nTwo?\n"))
    after = seeds.load(written(tmp_path, "q.txt", "Zero?\nOne?\nHalf?\nTwo?\n"))
    assert {s.id for s in before} < {s.id for s in after} and len({s.id for s in after}) == 4


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_in_the_dialects_that_spreadsheets_write(tmp_path, mark):
    rows = [("ID", "Question", "Topic"), ("7", f'"a{mark} b\nand c?"', "x"), ("8", "d?", "")]
    path = written(tmp_path, "t.csv", "\r\n".join(mark.join(row) for row in rows))
    found = seeds.load(path)
    assert [(s.text, s.topic) for s in found] == [(f"a{mark} b\nand c?", "x"), ("d?", "")]


@pytest.mark.parametrize("column", seeds.COLUMNS)
def test_the_column_is_guessed_or_named(tmp_path, column):
    path = written(tmp_path, "t.jsonl", json.dumps({"other": "no", column: "yes?"}) + "\n")
    assert [s.text for s in seeds.load(path)] == ["yes?"]
    assert [s.text for s in seeds.load(path, column="Other")] == ["no"]


def test_an_instruction_keeps_its_input(tmp_path):
    rows = [{"instruction": "Sum up.", "input": "Rain fell."}, {"instruction": "Sing.", "input": ""}]
    path = written(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [s.text for s in seeds.load(path)] == ["Sum up.\n\nRain fell.", "Sing."]


def test_parquet(tmp_path):
    import pandas

    path = tmp_path / "p.parquet"
    pandas.DataFrame({"title": ["One?", "Two?"], "topic": ["t", None], "score": [1, 2]}).to_parquet(path)
    assert [(s.text, s.topic) for s in seeds.load(path)] == [("One?", "t"), ("Two?", "")]
    pandas.DataFrame({"title": ["One?", None]}).to_parquet(path)
    with pytest.raises(CourseError, match=r"p\.parquet, row 2: 'title' holds no text"):
        seeds.load(path)


def test_repeated_texts_are_dropped_aloud(tmp_path, capsys):
    path = written(tmp_path, "r.txt", "Why me?\nWHY  me?\nWhy you?\nwhy me? \n")
    assert [s.text for s in seeds.load(path)] == ["Why me?", "Why you?"]
    assert capsys.readouterr().out == "r, left out: repeated texts (2)\n"


def test_of_two_the_same_the_one_with_an_answer_is_kept(tmp_path):
    rows = [
        {"text": "Why?"},
        {"text": "How?"},
        {"text": "why?", "reference": "So."},
        {"text": "Why?", "reference": "No."},
    ]
    found = seeds.load(written(tmp_path, "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [(s.text, s.reference) for s in found] == [("why?", "So."), ("How?", "")]


FAULTS = {
    "broken JSON": ("f.jsonl", '{"text": "a"}\n{"text": "b}\n', r"f\.jsonl:2: not JSON .*column 10.* object a line"),
    "a JSON list": ("f.jsonl", '{"text": "a"}\n\n["b"]\n', r"f\.jsonl:3: expected an object"),
    "half an emoji": ("f.jsonl", '{"text": "a \\ud83d"}\n', r"f\.jsonl:1: holds half a character"),
    "an empty text": (
        "f.jsonl",
        '{"text": "a"}\n{"text": "  "}\n',
        r"f\.jsonl:2: 'text' holds no text.* delete the line",
    ),
    "no text": (
        "f.jsonl",
        '{"text": "a"}\n{"topic": "b"}\n',
        r"f\.jsonl:2: there is no column called .*'topic'.*column=",
    ),
    "a number": ("f.jsonl", '{"text": 5}\n', r"f\.jsonl:1: 'text' holds no text"),
    "one id twice": (
        "f.jsonl",
        '{"text": "a", "id": "x", "source": "s"}\n{"text": "b", "id": "x", "source": "s"}\n',
        r"f\.jsonl:2: the id 'x' was used at .*f\.jsonl:1",
    ),
    "Latin-1": ("f.txt", "Why?\nCaf\xe9?\n".encode("latin-1"), r"f\.txt:2: this is not UTF-8\. Save the file as UTF-8"),
    "UTF-16": ("f.csv", "text\nWhy?\n".encode("utf-16"), r"f\.csv:1: this is not UTF-8"),
    "an empty file": ("f.txt", "", r"f\.txt is empty\. Put at least one"),
    "only blank lines": ("f.jsonl", "\n \n", r"f\.jsonl is empty"),
    "only a header": ("f.csv", "text\n", r"f holds no seeds"),
    "unquoted commas": ("f.csv", "text\nWhy, why?\n", r'f\.csv:2: more fields .* "quotes"'),
    "an open quote": ("f.csv", 'text\n"Why?\nHow?\n', r"f\.csv:\d: not CSV .*Check the quotes"),
    "a short row": ("f.csv", "topic,text\na,Why?\nb\n", r"f\.csv:3: 'text' holds no text"),
    "other columns": ("f.csv", "frage\nWas?\n", r"f\.csv:2: there is no column called text.*'frage'.*column="),
    "no Parquet": ("f.parquet", "text", r"f\.parquet: not a Parquet file"),
    "another kind": ("f.docx", "Why?", r"f\.docx: cannot read \.docx\. Use \.txt"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_file_line_and_remedy(tmp_path, fault):
    name, content, sentence = FAULTS[fault]
    path = written(tmp_path, name, content)
    with pytest.raises(CourseError, match=sentence) as caught:
        seeds.load(path)
    assert str(tmp_path) not in str(caught.value)


def test_an_unknown_source_is_told_the_known_ones(tmp_path):
    with pytest.raises(CourseError, match=r"'qoura'.*quora, stackoverflow, medquad, alpaca"):
        seeds.load("qoura")
    with pytest.raises(CourseError, match=r"missing\.csv"):
        seeds.load(tmp_path / "missing.csv")


# MedQuAD.

PAIR = '<QAPair pid="{n}"><Question qid="{n}" qtype="x">{q}</Question><Answer>{a}</Answer></QAPair>'


def document(focus, *pairs, root="Document"):
    """A MedQuAD document in XML, of (question, answer) pairs."""
    inner = "".join(PAIR.format(n=n, q=q, a=a) for n, (q, a) in enumerate(pairs, 1))
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} id="1" source="T" url="http://example.org">'
    return f"{head}<!-- c --><Focus>{focus}</Focus><QAPairs>{inner}</QAPairs></{root}>"


def test_medquad_is_read_and_cleaned(tmp_path, capsys):
    acne = document(
        "Acne",
        ("What is (are) Acne ?", "Spots &amp; sores.\n       \n  Often&#39;s mild. "),
        ("Who has\n Acne ? ?", ""),
    )
    written(tmp_path, "1_A/2.xml", acne)
    written(tmp_path, "1_A/1.xml", document("Gout", ("what is (are)  ACNE ?", "")))
    written(tmp_path, "2_B/1.xml", document("Mumps"))
    written(tmp_path, "2_B/2.xml", document("", ("What is (are)  ?", "It."), ("can it spread?", "Yes.")))
    written(tmp_path, "2_B/3.xml", document("Lice", ("How to treat Lice ?", "Comb."), root="DiseaseFile"))
    written(tmp_path, "2_B/._3.xml", b"\x00not XML")
    found = {s.text: s for s in seeds.load(tmp_path)}
    assert list(found) == ["What is (are) Acne?", "Who has Acne?", "can it spread?", "How to treat Lice?"]
    first = found["What is (are) Acne?"]
    assert (first.topic, first.source, first.license) == ("Acne", "medquad", "CC BY 4.0")
    assert first.reference == "Spots & sores.\nOften's mild." and found["Who has Acne?"].reference == ""
    said = capsys.readouterr().out
    assert all(part in said for part in ("repeated texts (1)", "without questions (1)", "about nothing (1)"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<Document>\n<Focus>A</Focus>\n<QAPairs>", r"x\.xml:3: broken XML .*Fetch this file again"),
        ("", r"x\.xml:1: broken XML"),
        ("<Document>\nAT&T</Document>", r"x\.xml:2: broken XML"),
        ('<?xml version="1.0" encoding="klingon"?><Document/>', r"x\.xml:1: broken XML"),
        ("<html><body/></html>", r"x\.xml: expected <Document> at the top, found <html>"),
    ],
)
def test_a_faulty_document_is_named(tmp_path, content, sentence):
    written(tmp_path, "a.xml", document("Acne", ("What?", "")))
    written(tmp_path, "x.xml", content)
    with pytest.raises(CourseError, match=sentence):
        seeds.load(tmp_path)


def test_a_folder_without_seeds_is_named(tmp_path):
    with pytest.raises(CourseError, match=r"holds no \.xml files"):
        seeds.load(tmp_path)
    written(tmp_path, "a.xml", document("Acne"))
    with pytest.raises(CourseError, match="medquad holds no seeds"):
        seeds.load(tmp_path)


# The hub. `datasets` itself takes a folder of that name in the working folder for the data set: no network, no fake.


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set that `datasets` finds under the id acme/questions."""
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"Question": f"Number {i}?" if i else "", "Topic": "n", "source": "x", "id": i} for i in range(20)]
    written(tmp_path, "acme/questions/train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_a_data_set_is_loaded_by_its_id(hub, capsys):
    found = seeds.load("hub:acme/questions", license="CC0")
    assert [s.text for s in found] == [f"Number {i}?" for i in range(1, 20)]
    assert {(s.source, s.license, s.topic) for s in found} == {("questions", "CC0", "n")}
    assert "rows without text (1)" in capsys.readouterr().out


def test_a_limit_draws_the_same_rows_each_time(hub):
    some = seeds.load("hub:acme/questions", limit=6)
    assert 5 <= len(some) <= 6 and some == seeds.load("hub:acme/questions", limit=6)
    assert [s.text for s in some] != [f"Number {i}?" for i in range(1, len(some) + 1)]


def test_faults_of_the_hub_are_sentences(hub):
    with pytest.raises(CourseError, match=r"'quora' is no data set's id\. Write hub:namespace/name"):
        seeds.load("hub:quora")
    with pytest.raises(CourseError, match=r"no column 'title'.*'question'.*column="):
        seeds.load("hub:acme/questions", column="title")
    with pytest.raises(CourseError, match=r"Could not load acme/questions from the hub: .*nix.*Check the id"):
        seeds.load("hub:acme/questions:nix")


def test_without_a_network_the_bundled_sources_are_named():
    code = "from baize_nb import seeds\nseeds.load('hub:acme/nowhere')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, timeout=120)
    assert "CourseError: Could not load acme/nowhere from the hub" in run.stderr
    assert "use a bundled source" in run.stderr


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


def test_a_short_source_gives_all_it_has():
    assert per_source(seeds.sample(made(a=240, b=240, c=30), 120)) == {"a": 45, "b": 45, "c": 30}


def test_no_source_is_always_first():
    items = made(a=5, b=5, c=5)
    assert {seeds.sample(items, 1, seed=number)[0].source for number in range(20)} == {"a", "b", "c"}


def test_seed_numbers_differ_and_leave_the_global_generator_alone(pool):
    state = random.getstate()
    samples = [tuple(s.id for s in seeds.sample(pool, 16, seed=number)) for number in range(5)]
    assert len(set(samples)) == 5 and random.getstate() == state


def test_the_sample_is_the_same_in_every_process(pool):
    code = (
        "from baize_nb import seeds; p = [s for b in seeds.BUNDLED for s in seeds.load(b)];"
        "print(*(s.id for s in seeds.sample(p, 40)))"
    )
    outputs = set()
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        run = [sys.executable, "-c", code]
        outputs.add(subprocess.run(run, capture_output=True, text=True, cwd=REPO, env=environment, check=True).stdout)
    assert outputs == {" ".join(s.id for s in seeds.sample(pool, 40)) + "\n"}


@pytest.mark.parametrize("n", [-1, 4])
def test_more_than_there_is_cannot_be_sampled(n):
    with pytest.raises(CourseError, match=rf"asked for {n} seeds of 3.*load more"):
        seeds.sample(made(a=3), n)


# The file between the notebooks.


def test_written_seeds_come_back_with_a_manifest(tmp_path, pool):
    sampled = seeds.sample(pool, 10)
    source = common.DATA / "seeds" / "quora.jsonl"
    path = seeds.write(sampled, tmp_path / "seeds.jsonl", sources=[source], seed=0)
    assert seeds.read(path) == sampled
    manifest = json.loads((tmp_path / "seeds.jsonl.manifest.json").read_text(encoding="utf-8"))
    assert manifest["seeds"] == 10 and manifest["per_source"] == per_source(sampled) and manifest["seed"] == 0
    assert manifest["sources"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_the_same_source_twice_cannot_be_written(tmp_path):
    with pytest.raises(CourseError, match=r"2 ids occur twice, 'a-0' first"):
        seeds.write(made(a=2) * 2, tmp_path / "seeds.jsonl")
    assert not list(tmp_path.iterdir())


def test_seeds_load_no_torch_and_no_datasets():
    code = (
        "import sys; from baize_nb import seeds; seeds.load('quora'); print({'torch', 'datasets'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, check=True)
    assert run.stdout == "set()\n"


# Figures.


def test_figures_show_what_they_are_given():
    bars = figures.shares({"one": {"a": 3, "b": 5}, "other": {"a": 4, "b": 4}}).axes[0]
    assert [patch.get_height() for patch in bars.patches] == [3, 5, 4, 4]
    panels = figures.topics({"a": {f"t{i}": i for i in range(1, 10)}, "b": {"u": 1}, "c": {"v": 2}}).axes
    assert [panel.get_visible() for panel in panels] == [True, True, True, False]
    assert [round(patch.get_width()) for patch in panels[0].patches] == [3, 4, 5, 6, 7, 8, 9]
    assert "9 topics" in panels[0].get_title(loc="left")
    boxes = figures.lengths({"a": [1, 2, 3], "b": [5]}).axes[0]
    assert [t.get_text() for t in boxes.get_yticklabels()] == ["a", "b"]
    square = figures.overlap(["a", "b"], [[1, 0.25], [0.25, 1]]).axes[0]
    assert [t.get_text() for t in square.texts] == ["1.00", "0.25", "0.25", "1.00"]


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
