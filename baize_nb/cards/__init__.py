"""The pages that travel with a corpus and with a model: what each is, how it was made, what is wrong with it, what for.

Their wording stands in corpus.md and model.md, templates of huggingface_hub; here is what fills them.
"""

import hashlib
import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .. import common, corpus, models, transcript
from ..common import CourseError
from ..corpus import Dialogue


def write_corpus_card(dialogues: Sequence[Dialogue], path, notes: Sequence[str] = ()) -> Path:
    """Write the card of the corpus at `path` beside it; return the card's path: `train.card.md` for train.jsonl.

    dialogues : what stands in the corpus. How it was made comes from its manifest, where it has one.
    notes     : more sentences for "What is wrong with it", for instance what was found by reading.
    The figures lie in `train.card/`, under names that change with their content: an old card keeps its own until the
    new one stands whole. Raises CourseError where there is no corpus to describe.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    from ..plots import corpus as figures
    from ..plots import png

    path = Path(path)
    if not dialogues or not path.is_file():
        raise CourseError(f"There are no dialogues in {common.show(path)} to describe. Write the corpus first.")
    folder, manifest, table = path.with_suffix(".card"), common.read_manifest(path), corpus.rule_table(dialogues)
    user, assistant = (corpus.message_words(dialogues, role) for role in ("user", "assistant"))
    settings = manifest.get("settings") if isinstance(manifest.get("settings"), dict) else {}
    made = {
        "strategy": list(dict.fromkeys(d.strategy for d in dialogues)),
        **{name: settings.get(name) for name in ("sampling", "max_turns", "answer_tokens", "persona")},
        **{name: manifest.get(name) for name in ("made_by", "made_at", "profile", "rules")},
        "made from": [s.get("path") for s in manifest.get("sources", []) if isinstance(s, dict)],
    }

    def listed(field, source=None):
        """The different values of a field, the commonest first."""
        values = (getattr(d, field) for d in dialogues if source in (None, d.source))
        return ", ".join(_plain(value) for value, _ in Counter(filter(None, values)).most_common())

    def picture(fig, name):
        """Save a figure; return its address for the card beside the folder."""
        data = png(fig)
        file = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}.png"
        with common.atomic_write(file) as temporary:
            temporary.write_bytes(data)
        return f"{folder.name.replace(' ', '%20')}/{file.name}"

    found = table[table.hits > 0]
    card = DatasetCard.from_template(
        DatasetCardData(tags=["synthetic", "self-chat"]),
        template_path=str(Path(__file__).with_name("corpus.md")),
        plain=_plain,
        listed=listed,
        common=common,
        corpus=corpus,
        dialogues=dialogues,
        path=path,
        words=sum(user) + sum(assistant),
        manifest=manifest,
        made=made,
        table=table,
        notes=notes,
        words_picture=picture(figures.words_by_role(user, assistant), "words"),
        rules_picture=picture(figures.hits(dict(found.only), dict(found.hits - found.only)), "rules")
        if len(found)
        else "",
    )
    card_path = _write(card, path.with_suffix(".card.md"))
    for old in folder.glob("*.png"):
        if old.name not in card.content:
            old.unlink()
    return card_path


def write_model_card(artifact, adapter, corpus_path=None) -> Path:
    """Write the card of a model that `merge` or `export_gguf` made; return its path, `<name>.card.md` beside it.

    artifact    : the merged folder or the GGUF file. adapter : the folder that it was made from.
    corpus_path : the train.jsonl that the adapter learned from, for its licences and how it was made; None leaves
                  them out, and the card says so.
    What a manifest does not say, the card calls unknown. Raises CourseError where there is no such model.
    """
    from huggingface_hub import ModelCard, ModelCardData

    artifact = Path(artifact)
    if not artifact.exists():
        raise CourseError(f"There is no model {common.show(artifact)} to describe. Make it with finetune.merge first.")
    trained, made = common.read_manifest(adapter), common.read_manifest(artifact)
    run, settings, embedded = trained.get("run") or {}, trained.get("settings") or {}, trained.get("base") == "embedded"
    settings |= {"dtype": run["dtype"]} if "dtype" in run else {}  # in `settings` it may be "auto"
    results = {
        f"held-out loss {when}": f"{run[key]:.3f} (perplexity {math.exp(run[key]):.1f})"
        for when, key in (("before", "loss_before"), ("after", "loss_after"))
        if key in run
    } | {name: run.get(name) for name in ("steps", "tokens", "seconds")}
    data, note = {"encoded": trained.get("encoded"), "files": trained.get("sources")}, ""
    if corpus_path is None:
        note = "How the dialogues were made was not given to this card."
    else:
        of_corpus, dialogues = common.read_manifest(corpus_path), corpus.read(corpus_path)
        data |= {name: of_corpus.get(name) for name in ("made_by", "settings", "rules")}
        data["licences of the seeds"] = dict(Counter(d.license for d in dialogues))
        data["written by"] = dict(Counter(d.model for d in dialogues))
        if common.sha256(corpus_path) not in {source["sha256"] for source in trained.get("sources") or []}:
            note = "This corpus is not the file that the adapter's manifest names."
    file = artifact if artifact.is_file() else artifact / "model.safetensors"
    card = ModelCard.from_template(
        ModelCardData(tags=["baize", "lora"], pipeline_tag="text-generation"),
        template_path=str(Path(__file__).with_name("model.md")),
        facts=_facts,
        transcript=transcript,
        artifact=artifact,
        size=f"{file.stat().st_size:,} bytes · SHA-256 `{common.sha256(file)}`" if file.is_file() else "several files",
        base=models.NAME if embedded else trained.get("base"),
        embedded=embedded,
        made=made,
        data=data,
        data_note=note,
        settings=settings,
        results=results,
    )
    return _write(card, artifact.with_name(artifact.name + ".card.md"))


def _write(card, path):
    """Write the card, with one empty line where the template's conditions leave several."""
    common.write_text(path, re.sub(r"\n{3,}", "\n\n", card.content).rstrip("\n") + "\n")
    return path


def _plain(value, limit=160):
    """A fact in one line that Markdown shows as it stands: a corpus may hold anything, HTML and links included."""
    text = _said(value).removeprefix("(").removesuffix(")") if isinstance(value, dict) else _said(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", html.escape(text, quote=False))


def _facts(facts):
    """Facts as an indented block, one a line: whatever stands in a manifest, Markdown shows it as it is."""
    known = [f"    {name}: {_said(value)}" for name, value in facts.items() if value or value == 0]
    return "\n".join(known) or "Not known: no manifest says it."


def _said(value):
    """A value in one line."""
    if isinstance(value, dict):
        return "(" + "; ".join(f"{name} {_said(inner)}" for name, inner in value.items()) + ")"
    return ", ".join(map(_said, value)) if isinstance(value, list | tuple) else " ".join(str(value).split())
