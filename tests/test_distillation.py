"""Self-distillation: which questions, what rules see, which judge is believed, what is chosen, where the second
training begins; a killed run goes on and pays nothing twice."""

import contextlib
import json
from dataclasses import replace

import pytest
from endpoints import Answer, serving
from hypothesis import given
from hypothesis import strategies as st
from smalltalk import DIALOGUES, TINY

from baize_nb import common, corpus, distillation, evaluation, finetune, models, profiles, teacher
from baize_nb.distillation import Candidate, Trial, judging, rules
from baize_nb.distillation.choosing import FLOOR
from baize_nb.plots import distillation as figures
from baize_nb.seeds import Seed
from baize_nb.teacher import Teacher

ADAPTER = common.DATA / "adapter"
TRAIN = corpus.read(common.DATA / "corpus" / "train.jsonl")
HELDOUT = corpus.read(common.DATA / "corpus" / "heldout.jsonl")


def candidate(prompt, number, text="Air scatters blue light most of all colours, so the sky is blue.", end="stop"):
    return Candidate(f"{prompt}/{number}", prompt, "Why is the sky blue?", number, text, end, 14, "tuned-1")


def scored(*scores, prompt="q"):
    """Candidates of one question and the records of their scores."""
    rivals = [candidate(prompt, number, f"Reply number {number}.") for number in range(len(scores))]
    return rivals, [{"id": c.id, "score": s, "by": "rules"} for c, s in zip(rivals, scores, strict=True)]


# Questions


def test_questions_are_those_of_training_and_never_those_of_a_test():
    prompts = [p.question for p in evaluation.prompts()]
    kept_away = [d.messages[0]["content"] for d in HELDOUT] + prompts
    asked = distillation.questions(TRAIN, 64, avoid=kept_away)
    assert len(asked) == len({seed.text for seed in asked}) == 64
    assert {seed.text for seed in asked} <= {d.messages[0]["content"] for d in TRAIN} - set(kept_away)
    assert not corpus.prompt_overlap([corpus.Dialogue(s.id, messages=[{"content": s.text}]) for s in asked], kept_away)
    assert asked == distillation.questions(TRAIN[::-1], 64, avoid=kept_away)
    sources = [seed.source for seed in asked]
    assert {sources.count(source) for source in set(sources)} == {16}


def test_questions_are_avoided_whatever_their_case_and_asked_once():
    doubled = [*DIALOGUES, replace(DIALOGUES[0], id="again")]
    asked = distillation.questions(doubled, 99, avoid=["what is ASTHMA"])
    assert sorted(seed.text for seed in asked) == sorted(
        d.messages[0]["content"] for d in DIALOGUES if "asthma" not in d.messages[0]["content"]
    )


# Rules

QUESTION = "Why is the sky blue in the daytime?"
GOOD = "During daytime the sky looks blue because air scatters the short waves of sunlight much more than long ones."
WORSE = {
    "stopped": (GOOD, "limit"),
    "no marker": (GOOD + "\nUser: And at night?", "stop"),
    "no repetition": (GOOD + " " + GOOD, "stop"),
    "no echo": (QUESTION + " " + GOOD, "stop"),
    "on topic": ("Bees visit flowers all summer long and carry nectar home to feed the young of their hive.", "stop"),
    "length": ("Blue sky daytime.", "stop"),
}


def test_the_points_are_a_hundred_and_a_good_reply_earns_them():
    assert sum(distillation.POINTS.values()) == 100 and set(WORSE) == set(distillation.POINTS)
    assert distillation.earned(QUESTION, GOOD, "stop") == distillation.POINTS
    assert distillation.total(distillation.POINTS) == 100


@pytest.mark.parametrize("rule", WORSE)
def test_each_rule_sees_what_it_is_for(rule):
    points = distillation.earned(QUESTION, *WORSE[rule])
    assert points[rule] < distillation.POINTS[rule] - 1
    assert distillation.total(points) < 100


def test_a_reply_that_ended_in_a_marker_was_neither_closed_nor_clean():
    points = distillation.earned(QUESTION, GOOD, "marker")
    assert points["stopped"] == points["no marker"] == 0


def test_a_reply_that_was_cut_off_never_reaches_the_floor():
    assert distillation.total(distillation.earned(QUESTION, GOOD, "limit")) == 75 < FLOOR
    assert profiles.get("laptop").sdf_floor == FLOOR


@given(st.text(), st.text(), st.sampled_from(["stop", "limit", "marker", "stopped"]))
def test_points_stay_within_their_bounds_for_any_text(question, reply, end):
    points = distillation.earned(question, reply, end)
    assert all(0 <= points[rule] <= most for rule, most in distillation.POINTS.items())
    assert 1 <= distillation.total(points) <= 100
    if not corpus.words(reply):
        assert distillation.total(points) == 1


def test_other_points_may_be_argued_for():
    assert distillation.earned(QUESTION, GOOD, "stop", {"length": 50}) == {"length": 50.0}
    assert rules.SHORT < len(corpus.words(GOOD)) < rules.LONG


# A judge


@pytest.mark.parametrize(("said", "score"), [("1", 1), ("100", 100), (" 85\n", 85), ("Score: 7.", 7), ("60 / 100", 60)])
def test_a_number_is_read(said, score):
    assert distillation.parse_score(said) == score


@pytest.mark.parametrize(
    "said", ["", "0", "101", "1000", "-5", "8.5", "85 points", "I say 85", "85 86", "Score:", "85/10"]
)
def test_anything_else_is_not(said):
    assert distillation.parse_score(said) is None


def trial(score):
    """A `Trial` whose judge gives score(kind, wording, number of the question)."""
    kinds = ("own", "another's", "scrambled", "echo")
    records = [
        {"question": str(q), "kind": kind, "reply": "", "wording": w, "score": score(kind, w, q), "said": ""}
        for q in range(6)
        for kind in kinds
        for w in (0, 1)
    ]
    return Trial(records)


def test_a_judge_that_knows_is_credible_and_one_that_does_not_is_not():
    knows = trial(lambda kind, w, q: 90 - 5 * w if kind == "own" else 20)
    assert knows.right.value == 1 and knows.read == 1 and knows.credible
    assert knows.apart == pytest.approx(5 / 4)
    always_the_same = trial(lambda kind, w, q: 90)
    assert always_the_same.right.value == 0.5 and always_the_same.apart == 0 and not always_the_same.credible
    half_right = trial(lambda kind, w, q: 90 if kind != "echo" else 20)
    assert not half_right.credible
    the_wrong_way = trial(lambda kind, w, q: 20 if kind == "own" else 90)
    assert the_wrong_way.right.value == 0 and not the_wrong_way.credible
    by_the_weather = trial(lambda kind, w, q: (37 * q + 11 * w + 53 * len(kind)) % 100)
    assert not by_the_weather.credible
    often_right = trial(lambda kind, w, q: (90 if kind == "own" else 20) if q else 50)
    assert often_right.right.value == pytest.approx(11 / 12) and not often_right.credible  # its low end is lower


def test_what_cannot_be_read_counts_as_a_coins():
    silent = trial(lambda kind, w, q: None)
    assert silent.read == 0 and silent.apart is None and silent.right.value == 0.5 and not silent.credible
    half = trial(lambda kind, w, q: None if w else {"own": 90}.get(kind, 10))
    assert half.read == 0.5 and half.right.value == 0.75
    assert "not credible" in str(half) and "not credible" not in str(trial(lambda k, w, q: 9 if k == "own" else 2))


def test_probes_hold_one_reply_of_each_kind_to_each_question():
    found = distillation.probes(TRAIN, 5)
    assert len(found) == 20 and found == distillation.probes(TRAIN, 5)
    for place in range(0, 20, 4):
        four = {probe["kind"]: probe for probe in found[place : place + 4]}
        own = four["own"]["reply"]
        assert (
            len({probe["question"] for probe in four.values()}) == 1
            and four["echo"]["reply"] == four["own"]["question"]
        )
        assert sorted(four["scrambled"]["reply"].split()) == sorted(own.split()) and four["scrambled"]["reply"] != own
        assert four["another's"]["reply"] != own


def streamed(text):
    """The body of a streamed chat completion that says `text`."""
    parts = [{"delta": {"content": text}, "finish_reason": None}, {"delta": {}, "finish_reason": "stop"}]
    about = {"id": "x", "created": 0, "model": "m", "object": "chat.completion.chunk"}
    lines = [f"data: {json.dumps(about | {'choices': [{'index': 0} | part]})}\n\n" for part in parts]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


@contextlib.contextmanager
def judging_by(number_of, seen):
    """A `Teacher` at a loopback endpoint that answers each request with number_of(its last message)."""

    async def answer(path, body):
        request = body["messages"][-1]["content"]
        seen.append(request)
        return Answer(streamed(str(number_of(request))), headers={"Content-Type": "text/event-stream"})

    with serving(answer) as url:
        yield Teacher(url, "m")


def test_a_judge_is_asked_in_both_wordings_and_never_twice(tmp_path):
    probes, seen = distillation.probes(TRAIN, 4), []
    good = {probe["reply"] for probe in probes if probe["kind"] == "own"}
    with judging_by(lambda text: 90 if any(reply in text for reply in good) else 15, seen) as judge:
        found = distillation.try_judge(judge, probes, tmp_path / "judged.jsonl")
        again = distillation.try_judge(judge, probes, tmp_path / "judged.jsonl")
    assert found == again and found.credible and found.read == 1
    assert len(seen) == len(set(seen)) == 2 * len(probes)
    assert {said["reply"] for said in found.records} == {probe["reply"] for probe in probes}


def test_auto_takes_the_judge_that_passed_its_trial_and_the_rules_otherwise(tmp_path):
    rivals, seen = [candidate("q", 0), candidate("q", 1, "No.")], []
    passed, failed = trial(lambda kind, w, q: 90 if kind == "own" else 20), trial(lambda kind, w, q: 50)
    with judging_by(lambda text: 77 if "scatters" in text else "well, 12", seen) as judge:
        by_judge = distillation.score(rivals, tmp_path / "scores.jsonl", "auto", judge, passed)
        distillation.score(rivals, tmp_path / "scores.jsonl", "auto", judge, passed)
        assert len(seen) == 2
        by_rules = distillation.score(rivals, tmp_path / "scores.jsonl", "auto", judge, failed)
        assert len(seen) == 2
    assert by_judge == [
        {"id": "q/0", "score": 77, "by": "m", "said": "77"},
        {"id": "q/1", "score": None, "by": "m", "said": "well, 12"},
    ]
    assert [record["by"] for record in by_rules] == ["rules"] * 2 and by_rules[0]["score"] > by_rules[1]["score"]
    assert by_rules == distillation.score(rivals, tmp_path / "scores.jsonl")
    lines = (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == by_rules
    assert corpus.read_manifest(tmp_path / "scores.jsonl")["settings"]["points"] == distillation.POINTS
    assert len((tmp_path / "judged.jsonl").read_text().splitlines()) == 2, "what was paid for is kept"


def test_a_request_shows_two_examples_before_the_reply():
    messages = judging.request("What is {rain}?", "Water {0}.")
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2 + ["user"]
    assert all(distillation.parse_score(m["content"]) for m in messages[1::2])
    assert "What is {rain}?" in messages[-1]["content"] and "Water {0}." in messages[-1]["content"]


# Choosing


@pytest.mark.parametrize(
    ("scores", "number"),
    [((40, 90, 85), 1), ((85, 90, 90), 1), ((None, 80, None), 1), ((79, 79), None), ((None, None), None)],
)
def test_the_first_of_the_best_is_chosen_if_it_is_good_enough(scores, number):
    rivals, records = scored(*scores)
    choice = distillation.choose([Seed("q", "Why is the sky blue?", "quora-style", "Apache-2.0")], rivals, records)
    if number is None:
        best = max((s for s in scores if s is not None), default=None)
        assert choice == distillation.Choice([], [("q", best)])
    else:
        assert [d.messages[1]["content"] for d in choice.dialogues] == [f"Reply number {number}."]
        assert choice.left_out == []


def test_what_was_chosen_is_a_corpus_that_says_who_wrote_it(tmp_path):
    seeds = [Seed(name, f"What is {name}?", "quora-style", "Apache-2.0") for name in ("a", "b")]
    groups = [scored(85, 95, prompt="a"), scored(10, 20, prompt="b")]
    rivals, records = ([x for group in groups for x in group[i]] for i in (0, 1))
    choice = distillation.choose(seeds, rivals, records)
    path = distillation.write_chosen(choice, tmp_path / "chosen.jsonl")
    assert corpus.read(path) == choice.dialogues and choice.left_out == [("b", 20)]
    only = choice.dialogues[0]
    assert (only.id, only.license, only.source) == ("a", "Apache-2.0", "quora-style")
    assert only.model == "tuned-1" and only.strategy == "best of 2 by rules"
    manifest = corpus.read_manifest(path)
    assert manifest["counts"] == {"chosen": 1, "left_out": 1} and manifest["settings"]["floor"] == FLOOR


# The real model


def test_sampling_goes_on_where_it_was_killed_and_asks_nothing_twice(tmp_path):
    path, asked = tmp_path / "candidates.jsonl", distillation.questions(TRAIN, 2)
    tokenizer = models.load_tokenizer()
    with teacher.embedded(slots=4) as endpoint:
        first = distillation.sample(endpoint, tokenizer, asked, 2, path, slots=4, max_new_tokens=6)
        whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(whole[:3]) + whole[3][:20], encoding="utf-8")  # killed in the middle of a line
        second = distillation.sample(endpoint, tokenizer, asked, 2, path, slots=4, max_new_tokens=6)
        kept = path.read_text(encoding="utf-8").splitlines(keepends=True)
        third = distillation.sample(endpoint, tokenizer, asked, 2, path, slots=4, max_new_tokens=6)
    assert [c.id for c in first] == [f"{seed.id}/{number}" for number in (0, 1) for seed in asked]
    assert all(0 < c.tokens <= 6 and c.text and c.model == endpoint.model for c in first)
    assert kept[:3] == whole[:3] and len(kept) == 4 and second == third
    assert path.read_text(encoding="utf-8").splitlines(keepends=True) == kept
    assert {json.loads(line)["settings"]["seed"] for line in kept} == {0, 1}
    manifest = corpus.read_manifest(path)
    assert manifest["counts"] == {"questions": 2, "candidates": 4} and manifest["settings"]["temperature"] == 1.0


def test_the_second_training_begins_where_the_first_one_ended(tmp_path, capsys):
    base = finetune.merge(ADAPTER, out=tmp_path / "base")
    assert capsys.readouterr().err == "", "no progress bar in a notebook"
    first, tokenizer = models.load(adapter=ADAPTER)
    ended = finetune.heldout_loss(first, HELDOUT[:2], tokenizer, 96)
    untuned = finetune.heldout_loss(first.unload(), HELDOUT[:2], tokenizer, 96)
    run = finetune.train(DIALOGUES, HELDOUT[:2], str(base), tmp_path / "adapter", replace(TINY, max_length=96))
    assert run.loss_before == pytest.approx(ended, abs=1e-3)
    assert abs(untuned - ended) > 0.05, "else the first adapter would not be in it"
    assert run.loss_after != pytest.approx(run.loss_before, abs=1e-6)


# Figures


def test_the_figure_marks_the_chosen_one_of_each_question():
    fig = figures.candidates([([80, 90, None], 1), ([10, 20, 15], None), ([None, None], None)], floor=60)
    diamonds = [
        tuple(line.get_xydata()[0]) for line in fig.axes[0].lines if line.get_marker() == "D" and len(line.get_xdata())
    ]
    assert diamonds == [(2, 90)], "the best question last, and nothing where nothing was chosen"
    circles = [y for line in fig.axes[0].lines if line.get_marker() == "o" for y in line.get_ydata()]
    assert sorted(circles) == [10, 15, 20, 80]


def test_an_interval_that_holds_zero_is_hollow():
    fig = figures.differences({"stopped": (0.1, 0.05, 0.2), "words": (1.0, -2.0, 3.0)})
    sure, unsure = (ax.lines[-1] for ax in fig.axes)
    assert sure.get_markerfacecolor() != "white" == unsure.get_markerfacecolor()
    assert [ax.get_yticklabels()[0].get_text() for ax in fig.axes] == ["stopped", "words"]
    assert len(figures.differences({"words": (1.0, 0.5, 3.0)}).axes) == 1
