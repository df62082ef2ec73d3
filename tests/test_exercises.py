"""Exercises: the notebook's stub gets hints, the solution passes, plausible mistakes get the hint that fits."""

import ast
import importlib
import itertools
import math
import random
import re
import runpy
from fractions import Fraction
from statistics import mean, stdev

import numpy
import pytest
import run_notebooks
import torch

from baize_nb import corpus, judging, seeds
from baize_nb.corpus import cleaning

POOL = [seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test") for s, n in (("a", 240), ("b", 240), ("c", 30)) for i in range(n)]
SOLUTIONS, EXERCISES = {}, {}  # {function: the solution}, {function: (its stub, its check)}


def read(path):
    """The exercises of a notebook: what stands under "Your turn", as its author wrote it."""
    SOLUTIONS.update(runpy.run_path(str(run_notebooks.FOLDER / "solutions" / f"{path.stem}.py")))
    cells = run_notebooks.read(path).cells
    start = next(i for i, c in enumerate(cells) if c.cell_type == "markdown" and "## Your turn\n" in c.source)
    code, stubs = "\n".join(c.source for c in cells[start:] if c.cell_type == "code"), {}
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    exec(compile(ast.Module(functions, []), path.stem, "exec"), stubs)
    module, alias = re.search(r"^from checks import (\w+) as (\w+)", code, re.M).groups()
    for check, name in re.findall(rf"^{alias}\.(\w+)\((\w+)", code, re.M):
        EXERCISES[name] = (stubs[name], getattr(importlib.import_module(f"checks.{module}"), check))


for notebook in sorted(run_notebooks.FOLDER.glob("0[1-8]*.ipynb")):
    read(notebook)


def check(name, answer):
    """What the exercise's check says of an answer."""
    _, checked = EXERCISES[name]
    return checked(answer, POOL) if name == "largest_even" else checked(answer)


@pytest.fixture(autouse=True)
def rng():
    """Some answers draw from the global random numbers."""
    random.seed(0)
    numpy.random.seed(0)


# Building blocks of the answers below.


def by_shares(pool, n, draw):
    """Shares out as the solution does; draw(members, k) takes k of a source."""
    groups = {}
    for item in sorted(pool, key=lambda s: s.id):
        groups.setdefault(item.source, []).append(item)
    taken, waiting = [], sorted(groups.values(), key=len)
    for served, members in enumerate(waiting):
        taken += draw(members, min((n - len(taken)) // (len(waiting) - served), len(members)))
    return taken


def bootstrap(values, statistic, draws=2000, size=None, out=0.025, draw=random.choices):
    """An interval of so many samples of `size`, with a share of `out` left out on each side."""
    results = sorted(statistic(draw(values, k=size or len(values))) for _ in range(draws))
    return results[int(out * draws)], results[int((1 - out) * draws) - 1]


def by_formula(values, statistic):
    """1.96 standard errors on each side; no sample is drawn."""
    middle = statistic(values)
    reach = 1.96 * stdev(values) / math.sqrt(len(values)) * (len(values) if middle > 10 else 1)
    return middle - reach, middle + reach


def parse_anywhere(text):
    """Takes a marker for one wherever it stands."""
    roles = {"[Human]": "user", "[AI]": "assistant"}
    parts = re.split(r"(\[Human\]|\[AI\])", text)[1:]
    talk = [{"role": roles[m], "content": said.strip()} for m, said in zip(parts[::2], parts[1::2], strict=True)]
    return talk[:-1] if talk and talk[-1]["role"] == "user" else talk


def pairs_of(dialogue):
    words = [corpus.words(m["content"]) for m in dialogue.messages]
    return list(zip(words[::2], words[1::2], strict=True))


def copies(dialogues, same):
    """Ids of dialogues that are the same as an earlier one, by same(dialogue, other)."""
    return [d.id for i, d in enumerate(dialogues) if any(same(d, other) for other in dialogues[:i])]


def told(dialogue, messages=slice(None)):
    return "\n".join(m["content"] for m in dialogue.messages[messages])


def path(x, adapter, scale):
    A, B = adapter
    return scale * (x @ A.T @ B.T)


def without_putting_back(scores, n):
    if n >= len(scores):
        return SOLUTIONS["expected_best"](scores, n)
    return mean(max(draw) for draw in itertools.combinations(scores, n))


def changes_its_input(parts):
    parts[0]["words"].update(parts[-1]["words"])
    return SOLUTIONS["merge"](parts)


NAMES = {"Fraction": Fraction, "judging": judging, "cleaning": cleaning, **globals()}
# (exercise, an answer's source, what its first hint says; "" where it is right). `right` is the solution.
ANSWERS = [
    ("largest_even", "lambda: 90", ""),
    ("largest_even", "lambda: numpy.int64(90)", ""),
    ("largest_even", "lambda: 120", "has nothing left to give"),
    ("largest_even", "lambda: 510", "has nothing left to give"),
    ("largest_even", "lambda: 13", "a multiple of the number of sources"),
    ("largest_even", "lambda: 30", "there is room above"),
    ("largest_even", "lambda: 999", "try numbers"),
    ("largest_even", "lambda: None", "try numbers"),
    ("even_split", "lambda t, p: [numpy.int64(x) for x in right(t, p)]", ""),
    ("even_split", "lambda t, p: numpy.array(right(t, p))", ""),
    ("even_split", "lambda t, p: tuple(right(t, p))", ""),
    ("even_split", "lambda t, p: [t // p] * p", "are left over. Who gets those?"),
    ("even_split", "lambda t, p: [t // p + t % p] + [t // p] * (p - 1)", "one by one to different people"),
    ("even_split", "lambda t, p: t // p", "return a list"),
    ("even_split", "lambda t, p: [t]", "return a list"),
    ("even_split", "lambda t, p: [x + 0.0 for x in right(t, p)]", "return a list"),
    ("stratified_sample", "lambda pool, n, seed: by_shares(pool, n, random.Random(seed).sample)", ""),
    ("stratified_sample", "seeds.sample", "what you are asked to rebuild"),
    ("stratified_sample", "lambda pool, n, seed: seeds.sample(pool, n, seed)", "asked to rebuild"),
    ("stratified_sample", "lambda pool, n, seed: by_shares(pool, n, lambda m, k: (m + m)[seed % len(m):][:k])",
     "any seeds of a source may come together"),
    ("stratified_sample", "lambda pool, n, seed: by_shares(pool, n, lambda m, k: m[:k])", "random.Random(seed)"),
    ("stratified_sample", "lambda pool, n, seed: by_shares(pool, n, random.sample)", "random.Random(seed)"),
    ("stratified_sample", "lambda pool, n, seed: random.Random(seed).sample(sorted(pool, key=lambda s: s.id), n)",
     "one list per source"),
    ("stratified_sample", "lambda pool, n, seed: by_shares(pool, n // 3 * 3, random.Random(seed).sample)",
     "exactly n"),
    ("stratified_sample", "lambda pool, n, seed: [pool[int(s.id)] for s in right([seeds.Seed(f'{i:02}', s.text, "
     "s.source, '') for i, s in enumerate(pool)], n, seed)]", "sort the seeds by id"),
    ("stratified_sample", "lambda pool, n, seed: [pool[0]] * n", "draw without putting back"),
    ("stratified_sample", "lambda pool, n, seed: None", "one list per source"),
    ("requests", "lambda turns: 2 * turns", "the first question is the seed"),
    ("requests", "lambda turns: turns", "not only the answers"),
    ("trim", "lambda t: ''.join(re.findall(r'.*?[.!?](?=\\s|$)', t, re.S))", ""),
    ("trim", "lambda t: t[: max(t.rfind(m) for m in '.!?') + 1]", "the point in 3.5 ends no sentence"),
    ("trim", "lambda t: t if t[-1] in '.!?' else t[: max(t.rfind(m + ' ') for m in '.!?') + 1]", "any white space"),
    ("trim", "lambda t: t if t[-1] in '.!?' else right(t)[:-1]", "cut behind it, not before it"),
    ("trim", "lambda t: t[: t.rfind('.') + 1]", "look for all three marks"),
    ("trim", "lambda t: t[: t.find('.') + 1]", "it is the last mark that counts"),
    ("trim", "lambda t: right(t) or t", "return an empty text"),
    ("human_request", "lambda prompt, seed, talk: [{'role': 'system', 'content': prompt}, *talk]", "a chat history"),
    ("human_request", "lambda prompt, seed, talk: right(prompt, seed, [{**m, 'role': 'user' if m['role'] == 'assistant'"
     " else 'assistant'} for m in talk])", "[Human] stands before what the user said"),
    ("human_request", "lambda prompt, seed, talk: right(prompt, '{seed}', talk)", "fill both gaps"),
    ("human_request", "lambda prompt, seed, talk: right(prompt, seed, talk[-2:])", "nothing left out"),
    ("human_request", "lambda *given: right(*given)[0]['content']", "a list with one message"),
    ("human_request", "lambda *given: [{**right(*given)[0], 'role': 'assistant'}]", "comes from a user"),
    ("parse", "lambda t: [{**m, 'content': ' ' + m['content']} for m in right(t)]", "take it off with .strip()"),
    ("parse", "parse_anywhere", "only at the start of a line"),
    ("parse", "lambda t: right('\\n'.join(line for line in t.splitlines() if line[:1] == '['))", "goes on with"),
    ("parse", "lambda t: right(t + '\\n[AI] x') if t.endswith('When') else right(t)", "it has no answer"),
    ("parse", "lambda t: right(t)[:-2]", "only a question without an answer is dropped"),
    ("strict_loop", "cleaning.loop", "what is the default?"),
    ("strict_loop", "lambda d: cleaning.loop(d, limit=15)", "a share from 0 to 1"),
    ("strict_loop", "lambda d: 'bad'", "must be above that"),
    ("strict_loop", "lambda d: cleaning.loop(d, limit=0.1)", "14 % is not more than 15 %"),
    ("strict_loop", "lambda d: cleaning.loop(d, limit=0.18)", "16 % is more than 15 %"),
    ("parrot", "lambda d: 'p' if len(a := told(d, slice(1, 2)).split()[:5]) > 4 and ' '.join(a) in told(d, slice(1)) "
     "else ''", "without punctuation"),
    ("parrot", "lambda d: right(corpus.Dialogue('x', messages=d.messages[:2]))", "go through all turns"),
    ("parrot", "lambda d: 'p' * any(len(a) > 4 and {*a[:5]} <= {*q} for q, a in pairs_of(d))", "follow each other"),
    ("parrot", "lambda d: 'p' * any(len(a) > 4 and ' '.join(a[:5]) in ' '.join(' '.join(q) for q, _ in pairs_of(d)) "
     "for _, a in pairs_of(d))", "the question just before it"),
    ("duplicates", "lambda ds: copies(ds, lambda d, e: d.messages == e.messages)", "case and punctuation"),
    ("duplicates", "lambda ds: copies(ds, lambda d, e: d.seed == e.seed)", "compare whole dialogues"),
    ("duplicates", "lambda ds: copies(ds, lambda d, e: corpus.overlap(told(d, slice(1, 2)), told(e, slice(1, 2))) "
     ">= 0.7)", "compare whole dialogues"),
    *[("duplicates", f"lambda ds: copies(ds, lambda d, e: corpus.overlap(told(d), told(e)) >= {limit})", hint)
      for limit, hint in ((0.7, ""), (0.3, "with 0.7"), (0.5, "with 0.7"), (0.75, "with 0.7"))],
    ("duplicates", "lambda ds: [d.id for d in ds if any(d.messages == e.messages for e in ds if e is not d)]",
     "the first of several stays"),
    ("rank_for", "lambda shapes, budget: budget // sum(a * b for a, b in shapes)", "added, outputs + inputs"),
    ("rank_for", "lambda shapes, budget: budget / sum(a + b for a, b in shapes) + 0.5", "round down"),
    ("rank_for", "lambda shapes, budget: budget // sum(shapes[0])", "all matrices are adapted"),
    ("loss_mask", "lambda *given: (right(*given)[0], [-100 if x == given[2] else x for x in right(*given)[1]])",
     "Never ask what a token's id is"),
    ("loss_mask", "lambda parts, length, pad: ((r := right(parts, length, pad))[0], r[1][: (end := sum(len(i) for i, _ "
     "in parts))] + [pad] * (length - end))", "padding is not learned either"),
    ("loss_mask", "lambda parts, *given: right([(ids, True) for ids, _ in parts], *given)", "where `learn` is True"),
    ("lora_forward", "lambda x, W, A, B, alpha: x @ W.T.contiguous() + (x @ A.T * (alpha / len(A))) @ B.T", ""),
    ("lora_forward", "lambda x, W, A, B, alpha: x @ (W + alpha / len(A) * (B @ A)).T", "B @ A is as large as W"),
    ("lora_forward", "lambda x, W, A, B, alpha: x @ W.T + alpha / len(A) * x @ (A.T @ B.T)", "B @ A is as large as W"),
    ("lora_forward", "lambda x, W, A, B, alpha: x @ W.T + x @ A.T @ B.T", "scaled by alpha / rank"),
    ("lora_forward", "lambda x, W, A, B, alpha: alpha / len(A) * (x @ A.T @ B.T)", "added to what the frozen layer"),
    ("lora_forward", "lambda x, W, A, B, alpha: x @ W.T", "adds a second path"),
    ("lora_forward", "lambda x, W, A, B, alpha: W @ x + B @ A @ x", "look at the shapes"),
    ("probabilities", "lambda logits, t: right([10 * x for x in logits], 10 * t)", ""),
    ("probabilities", "lambda logits, t: [p / sum(map(math.exp, [x / t for x in logits])) for p in map(math.exp, "
     "[x / t for x in logits])]", "subtract the largest logit"),
    ("probabilities", "lambda logits, t: right(logits, 1 / t)", "stands below the line"),
    ("probabilities", "lambda logits, t: [p / t for p in right(logits, 1)]", "before exp"),
    ("probabilities", "lambda logits, t: 7", "divided by the sum"),
    ("keep", "lambda m, room, length: next((m[i:] for i in range(0, len(m) + 1, 2) if length(m[i:]) <= room), [])",
     "the last message stays"),
    ("keep", "lambda m, room, length: m[2:] if length(m) > room else m", "one turn may not be enough"),
    ("keep", "lambda m, room, length: right(m, room - 1, length)", "still fits"),
    ("keep", "lambda m, room, length: m[-1:]", "still fits"),
    ("keep", "lambda m, room, length: m[1:]", "two at a time"),
    ("keep", "lambda m, room, length: 5", "return a list"),
    ("release", "lambda text, markers: right(text, markers) if right(text, markers)[1] is None else (text, '')",
     "hold it back"),
    ("release", "lambda text, markers: (r if (r := right(text, markers))[1] is None or '[' not in text else "
     "(text[: text.find('[')], text[text.find('[') :]))", "hold back only what a marker starts with"),
    ("release", "lambda text, markers: (r[0], r[1] and '') if (r := right(text, markers)) else r", "is lost"),
    ("release", "lambda text, markers: ('', text)", "hold back only what a marker starts with"),
    ("release", "lambda text, markers: text", "return two things"),
    ("two_orders", "lambda a, b: {('A', 'A'): 'a', ('B', 'B'): 'b'}.get((a, b), 'tie')", "into names first"),
    ("two_orders", "lambda a, b: {'A': 'a', 'B': 'b', 'C': 'tie'}[a]", "into names first"),
    ("two_orders", "lambda a, b: {'AB': 'a', 'AC': 'a', 'CB': 'a', 'BA': 'b', 'BC': 'b', 'CA': 'b'}.get(a + b, 'tie')",
     "call it a tie"),
    *[("interval_of", f"lambda v, s: bootstrap(v, s, draws={draws})", "") for draws in (100, 200, 200, 200, 1000)],
    ("interval_of", "lambda v, s: numpy.percentile([s(random.choices(v, k=20)) for _ in v * 9], [2.5, 97.5])", ""),
    ("interval_of", "lambda v, s: bootstrap(v, s)[::-1]", "the lower one first"),
    ("interval_of", "by_formula", "no formula is needed"),
    ("interval_of", "lambda v, s: right(v, mean)", "call `statistic` on each"),
    ("interval_of", "lambda v, s: bootstrap(v, s, draws=20)", "a hundred samples and more"),
    ("interval_of", "lambda v, s: bootstrap(v, s, draw=random.sample)", "more than once"),
    ("interval_of", "lambda v, s: bootstrap(v, s, out=0.05)", "2.5 % out on each side"),
    ("interval_of", "lambda v, s: bootstrap(v, s, out=0.005)", "2.5 % out on each side"),
    ("interval_of", "lambda v, s: bootstrap(v, s, size=4)", "as many numbers as"),
    ("at_equal", "lambda longer, scores: numpy.float64(right(longer, scores))", ""),
    ("at_equal", "lambda longer, scores: mean(scores)", "the plain win rate"),
    ("at_equal", "lambda longer, scores: 1 / (1 + math.exp(-(f := judging.logistic(longer, scores))[0] - f[1] * "
     "mean(longer)))", "at difference 0"),
    ("at_equal", "lambda longer, scores: judging.logistic(longer, scores)[0]", "makes a share of it"),
    ("best_place", "lambda scores, floor: scores.index(b) if (b := max(scores)) >= floor else None", "leave those"),
    ("best_place", "lambda scores, floor: max((i for i, s in enumerate(scores) if s and s >= floor), "
     "key=lambda i: (scores[i], i), default=None)", "the first one wins"),
    ("best_place", "lambda scores, floor: right(scores, floor + 1)", "is good enough"),
    ("best_place", "lambda scores, floor: right(scores, 0)", "compare the best score with `floor`"),
    ("best_place", "lambda scores, floor: max((s for s in scores if s and s >= floor), default=None)", "not the score"),
    ("expected_best", "lambda scores, n: Fraction(sum(max(d) for d in itertools.product(scores, repeat=n)), "
     "len(scores) ** n)", ""),
    ("expected_best", "lambda scores, n: mean(scores)", "Where does n come in?"),
    ("expected_best", "lambda scores, n: max(scores) if n > 1 else mean(scores)", "you may miss it"),
    ("expected_best", "without_putting_back", "can come twice"),
    ("expected_best", "lambda scores, n: mean(max(random.choices(scores, k=n)) for _ in range(5000))", "no random"),
    ("second_forward", "lambda x, W, p, q, alpha: (once := x @ W.T + path(x, p, alpha / len(p[0]))) + path(once, q, "
     "alpha / len(q[0]))", "beside the first one"),
    ("second_forward", "lambda x, W, p, q, alpha: x @ W.T + path(x, q, alpha / len(q[0]))", "three paths"),
    ("second_forward", "lambda x, W, p, q, alpha: x @ W.T + path(x, p, 1) + path(x, q, 1)", "alpha / its own rank"),
    ("second_forward", "lambda x, W, p, q, alpha: x @ W.T + path(x, p, alpha / len(p[0])) + path(x, q, alpha / "
     "len(p[0]))", "alpha / its own rank"),
    ("batch_files", "lambda n, size: math.ceil(n / 50_000)", "mind its 200,000,000 bytes"),
    ("batch_files", "lambda n, size: math.ceil(n / (200_000_000 // size))", "50,000 lines are the limit"),
    ("batch_files", "lambda n, size: n // min(50_000, 200_000_000 // size)", "round up"),
    ("batch_files", "lambda n, size: max(math.ceil(n / 50_000), math.ceil(n * size / 200_000_000))", "cut in two"),
    ("left", "lambda shards, files: [s for s in shards if not any(f'{s}.parquet' in f for f in files)]", "not done"),
    ("left", "lambda shards, files: [s for s in shards if not any(f.startswith(f'{s}.parquet') for f in files)]",
     "not done"),
    ("left", "lambda shards, files: [s for s in shards if not any(f.endswith(f'{s}.parquet') for f in files)]",
     "compare whole names"),
    ("left", "lambda shards, files: set(right(shards, files))", "in the order of the shards"),
    ("left", "lambda shards, files: [s for s in shards if f'{s}.parquet' in files]", "the other way round"),
    ("merge", "lambda p: right(p) | {'mean_words': mean(x['mean_words'] for x in p)}", "the mean of means"),
    ("merge", "lambda p: right(p) | {'words': sum(len(x['words']) for x in p)}", "unite the sets"),
    ("merge", "lambda p: right(p) | {'longest': sum(x['longest'] for x in p)}", "the longest of the longest"),
    ("merge", "lambda p: [right(p), 1 / sum(x['messages'] for x in p)][0]", "not a division by zero"),
    ("merge", "changes_its_input", "build a new set"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "source", "hint"), ANSWERS, ids=[f"{name}{i}" for i, (name, *_) in enumerate(ANSWERS)]
)
def test_a_right_answer_passes_and_a_mistake_gets_the_hint_that_fits(name, source, hint, capsys):
    right = SOLUTIONS[name]
    check(name, right)  # hints begin anew
    capsys.readouterr()
    passed = check(name, eval(source, {**NAMES, "right": right}))
    output = capsys.readouterr().out
    assert passed == (not hint), output
    assert not hint or hint in re.search("hint 1: (.*)", output)[1], output


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebooks_stub_gets_one_more_hint_each_time_and_the_solution_passes(name, capsys):
    assert len({hint for which, _, hint in ANSWERS if which == name and hint}) >= 2, "mistakes with hints of their own"
    assert check(name, SOLUTIONS[name])
    for times in (1, 2, 3, 3):
        capsys.readouterr()
        assert not check(name, EXERCISES[name][0])
        assert capsys.readouterr().out.count("   hint ") == times
    assert check(name, SOLUTIONS[name])
    assert capsys.readouterr().out.startswith("✓")
    assert not check(name, lambda *given: 1 / 0)
    output = capsys.readouterr().out
    assert "ZeroDivisionError" in output and "hint 1: " in output
    for odd in (5, "x", [], {}, [1, 2], [[]], (1, 2), (None, None), numpy.array([1, 2]), torch.ones(2), object()):
        assert check(name, lambda *given, odd=odd: odd) is False, "no result raises"


def test_there_are_three_exercises_in_each_notebook():
    assert len(EXERCISES) == 25
