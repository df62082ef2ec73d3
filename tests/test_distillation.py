"""Self-distillation: which questions, what rules see, who scores, what is chosen, where the second training begins; a
killed run goes on and asks nothing twice. How a judge scores: test_judging.py."""

import asyncio
import json

import pytest
from endpoints import Answer, completion, serving

from baize_nb import common, corpus, distillation, evaluation, models, teacher
from baize_nb.distillation import Candidate
from baize_nb.seeds import Seed

ADAPTER = common.DATA / "adapter"
TRAIN = corpus.read(common.DATA / "corpus" / "train.jsonl")
HELDOUT = corpus.read(common.DATA / "corpus" / "heldout.jsonl")
TEXT = "Air scatters blue light most of all colours, so the sky is blue."


def candidate(prompt, number, text=TEXT):
    return Candidate(f"{prompt}/{number}", prompt, "Why is the sky blue?", number, text, "stop", 14, "tuned-1")


def test_questions_are_those_of_training_and_never_those_of_a_test():
    kept_away = [d.messages[0]["content"] for d in HELDOUT] + [p.question for p in evaluation.prompts()]
    asked = distillation.questions(TRAIN, 64, avoid=kept_away)
    assert len(asked) == len({seed.text for seed in asked}) == 64
    assert {seed.text for seed in asked} <= {d.messages[0]["content"] for d in TRAIN} - set(kept_away)
    assert not corpus.prompt_overlap([corpus.Dialogue(s.id, messages=[{"content": s.text}]) for s in asked], kept_away)
    assert asked == distillation.questions(TRAIN[::-1], 64, avoid=kept_away)
    sources = [seed.source for seed in asked]
    assert {sources.count(source) for source in set(sources)} == {16}


QUESTION = "Why is the sky blue in the daytime?"
GOOD = "During daytime the sky looks blue because air scatters the short waves of sunlight much more than long ones."


@pytest.mark.parametrize(
    ("rule", "reply", "end"),
    [
        ("stopped", GOOD, "limit"),
        ("no marker", GOOD + "\nUser: And at night?", "stop"),
        ("no repetition", GOOD + " " + GOOD, "stop"),
        ("no echo", QUESTION + " " + GOOD, "stop"),
        ("on topic", "Bees visit flowers all summer long and carry nectar home to feed their young.", "stop"),
        ("length", "Blue sky daytime.", "stop"),
    ],
)
def test_a_good_reply_earns_a_hundred_points_and_each_rule_sees_what_it_is_for(rule, reply, end):
    assert distillation.earned(QUESTION, GOOD, "stop") == distillation.POINTS
    assert distillation.total(distillation.POINTS) == sum(distillation.POINTS.values()) == 100
    assert distillation.total(distillation.earned(QUESTION, GOOD, "limit")) == 75
    points = distillation.earned(QUESTION, reply, end)
    assert points[rule] < distillation.POINTS[rule] - 1 and distillation.total(points) < 100


def test_a_judge_scores_where_one_is_given_and_the_rules_otherwise(tmp_path):
    rivals, seen, path = [candidate("q", 0), candidate("q", 1, "No.")], [], tmp_path / "scores.jsonl"

    async def answer(_, body):
        seen.append(body["messages"][-1]["content"])
        return Answer(completion("77" if "scatters" in seen[-1] else "well, 12"))

    with serving(answer) as url:
        judge = teacher.Teacher(url, "m")
        by_judge = asyncio.run(distillation.score(rivals, path, judge))
        assert asyncio.run(distillation.score(rivals, path, judge)) == by_judge and len(seen) == 2
    assert by_judge == [
        {"id": "q/0", "score": 77, "by": "m", "said": "77"},
        {"id": "q/1", "score": None, "by": "m", "said": "well, 12"},
    ]
    by_rules = asyncio.run(distillation.score(rivals, path))
    assert [record["by"] for record in by_rules] == ["rules"] * 2 and by_rules[0]["score"] > by_rules[1]["score"]
    assert by_rules == list(common.read_jsonl(path))
    assert corpus.read_manifest(path)["settings"]["points"] == distillation.POINTS


def scored(*scores, prompt="q"):
    """Candidates of one question and the records of their scores."""
    rivals = [candidate(prompt, number, f"Reply number {number}.") for number in range(len(scores))]
    return rivals, [{"id": c.id, "score": s, "by": "rules"} for c, s in zip(rivals, scores, strict=True)]


@pytest.mark.parametrize(
    ("scores", "number", "best"),
    [
        ((40, 90, 85), 1, 90),
        ((85, 90, 90), 1, 90),
        ((None, 80, None), 1, 80),
        ((79, 79), None, 79),
        ((None, None), None, None),
    ],
)
def test_the_first_of_the_best_is_chosen_if_it_is_good_enough(scores, number, best):
    seed = Seed("q", "Why is the sky blue?", "quora-style", "Apache-2.0")
    chosen, left_out = distillation.best_of([seed], *scored(*scores), floor=80)
    assert [d.messages[1]["content"] for d in chosen] == ([] if number is None else [f"Reply number {number}."])
    assert left_out == ([("q", best)] if number is None else [])
    for d in chosen:
        assert (d.id, d.seed, d.source, d.license, d.model) == (
            seed.id,
            seed.text,
            seed.source,
            seed.license,
            "tuned-1",
        )
        assert d.strategy == f"best of {len(scores) - scores.count(None)} by rules"


def test_sampling_goes_on_where_it_was_killed_and_asks_nothing_twice(tmp_path):
    path, asked, tokenizer = tmp_path / "candidates.jsonl", distillation.questions(TRAIN, 2), models.load_tokenizer()

    def lines():
        return path.read_text(encoding="utf-8").splitlines(keepends=True)

    with teacher.embedded(slots=4) as endpoint:

        def sample():
            return asyncio.run(distillation.sample(endpoint, tokenizer, asked, 2, path, max_new_tokens=6))

        first, whole = sample(), lines()
        path.write_text("".join(whole[:3]) + whole[3][:20], encoding="utf-8")  # killed in the middle of a line
        second, kept = sample(), lines()
        third = sample()
    assert [c.id for c in first] == [f"{seed.id}/{number}" for number in (0, 1) for seed in asked]
    assert all(0 < c.tokens <= 6 and c.text and c.model == endpoint.model for c in first)
    assert kept[:3] == whole[:3] and len(kept) == 4 and second == third and lines() == kept
    assert {json.loads(line)["settings"]["seed"] for line in kept} == {0, 1}
    manifest = corpus.read_manifest(path)
    assert manifest["counts"] == {"questions": 2, "candidates": 4} and manifest["settings"]["temperature"] == 1.0
