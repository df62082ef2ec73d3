"""Out the door: a merged model is base + adapter, a GGUF file says the same words, and both write the Baize format."""

import json
import urllib.request

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import chat
from transformers import LlamaConfig, LlamaForCausalLM

from baize_nb import common, corpus, finetune, models, transcript
from baize_nb.common import CourseError
from baize_nb.finetune import export
from baize_nb.finetune.tokens import chat_template
from baize_nb.teacher import Engine

ADAPTER = common.DATA / "adapter"
TOKENS = 20
CONVERSATIONS = [
    chat("What is rain?"),
    chat("What is rain?", "Water that falls from clouds.", "And snow?", "The same, frozen.\n\n- cold\n- white", "Why?"),
    chat("Is [|AI|] a marker, and [\\|Human|]?", "[|Human|] is one: 'so' \"they\" say {{ it }}.", "é 🙂 <b>?"),
]
QUESTIONS = [d.messages[0]["content"] for d in corpus.read(common.DATA / "corpus" / "heldout.jsonl")][:6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def merged(folder):
    return finetune.merge(ADAPTER, out=folder / "merged")


@pytest.fixture(scope="module")
def plain(merged):
    return models.load(str(merged))


@pytest.fixture(scope="module")
def source():
    """What is in the embedded file."""
    return gguf.GGUFReader(models.gguf())


@pytest.fixture(scope="module")
def full(folder):
    """The exported file with all 32 bits, and what is in it."""
    path = finetune.export_gguf(ADAPTER, out=folder / "full.gguf", kind="F32")
    return path, gguf.GGUFReader(path)


@pytest.fixture(scope="module")
def engine(full):
    served = Engine(full[0], "baize", slots=1)
    yield served
    served.close()


def ask(engine, path, **body):
    """What llama.cpp answers at one of its own addresses."""
    request = urllib.request.Request(
        engine.url.removesuffix("/v1") + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        return json.load(answer)


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float()


def says_the_same(engine, model, tokenizer, ids):
    """Greedy, float32 on both sides: each token that llama.cpp says is the likeliest one after those before it."""
    options = {"temperature": 0, "n_predict": TOKENS, "return_tokens": True, "ignore_eos": True}
    theirs = ask(engine, "/completion", prompt=ids, **options)["tokens"]
    assert len(theirs) == TOKENS
    scores = logits(model, ids + theirs)[len(ids) - 1 : -1]
    scores[:, tokenizer.all_special_ids] = float("-inf")  # ignore_eos, in our words
    return scores.argmax(-1).tolist() == theirs


def test_merged_folder_is_plain_and_names_nobodys_machine(merged):
    names = {file.name for file in merged.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.startswith("adapter") or name.endswith((".bin", ".pt", ".py"))]
    texts = [file.read_text() for file in (merged / "config.json", common.manifest_path(merged))]
    assert str(models.cache()) not in "".join(texts) and str(merged.parent) not in "".join(texts)
    assert json.loads(texts[-1])["sources"][0]["sha256"] == common.sha256(ADAPTER / "adapter_model.safetensors")


def test_the_merged_tokenizer_and_llama_cpp_write_and_cut_the_prompt_as_training_did(plain, engine):
    tokenizer = plain[1]
    for messages in CONVERSATIONS:
        expected = transcript.prompt(messages, eos=tokenizer.eos_token)
        ids = finetune.encode_prompt(messages, tokenizer)
        assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == expected
        assert tokenizer(expected).input_ids == ids
        dialogue = [*messages, {"role": "assistant", "content": "So."}]
        whole = transcript.render(dialogue, tokenizer.eos_token)
        assert tokenizer.apply_chat_template(dialogue, tokenize=False) == whole
        assert ask(engine, "/apply-template", messages=messages)["prompt"] == expected
        assert ask(engine, "/tokenize", content=expected, parse_special=True, add_special=True)["tokens"] == ids


WORDS = st.lists(
    st.sampled_from(["[|Human|]", "[|AI|]", "[\\|AI|]", "[|", "|]", "\\", "\n", "'", "{{", "%}", "so ", "é"])
)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(WORDS.map(lambda w: "a" + "".join(w)), min_size=1, max_size=5))
def test_the_template_writes_any_text_as_transcript_does(texts, tokenizer):
    messages = chat(*texts[: (len(texts) - 1) // 2 * 2 + 1])
    written = tokenizer.apply_chat_template(
        messages, chat_template=chat_template(tokenizer), tokenize=False, add_generation_prompt=True
    )
    expected = transcript.prompt(messages, eos=tokenizer.eos_token)
    assert written == expected or any("[\\\\" in text for text in texts)


def test_a_system_message_takes_the_preambles_place(plain):
    for guard, expected in (("Be kind.", "Be kind.\n[|Human|] Why?\n"), ("", "[|Human|] Why?\n")):
        messages = [{"role": "system", "content": guard}, *chat("Why?")]
        assert plain[1].apply_chat_template(messages, tokenize=False) == expected


def test_the_same_first_words_from_transformers_and_llama_cpp_and_an_end(plain, engine, tokenizer):
    for question in QUESTIONS:
        ids = finetune.encode_prompt(chat(question), tokenizer)
        assert says_the_same(engine, plain[0], tokenizer, ids), question
    ended = []
    for question in QUESTIONS:
        body = {"messages": chat(question), "temperature": 0, "max_tokens": 96}
        choice = ask(engine, "/v1/chat/completions", **body)["choices"][0]
        assert tokenizer.eos_token not in choice["message"]["content"]
        ended.append(choice["finish_reason"] == "stop" and choice["message"]["content"].strip() != "")
    assert any(ended), "no reply came to an end of its own"


def test_an_untuned_model_comes_out_as_the_embedded_file_and_a_tuned_one_with_its_metadata(
    source, folder, full, tokenizer
):
    written = gguf.GGUFReader(finetune.export_gguf(None, out=folder / "bare.gguf", kind="F32"))
    ours = {tensor.name: tensor for tensor in written.tensors}
    assert set(ours) == {t.name for t in source.tensors}
    for tensor in source.tensors:
        if tensor.name.startswith(("blk.0.", "blk.29.", "token_embd", "output")):
            weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(ours[tensor.name].data, weights), tensor.name
    ours, theirs = (
        {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        for reader in (full[1], source)
    )
    changed = {"general.name", "general.finetune", "general.file_type", "tokenizer.chat_template"}
    assert ours.keys() == theirs.keys() and {name for name in ours if ours[name] != theirs[name]} == changed
    assert ours["tokenizer.chat_template"] == chat_template(tokenizer)


def test_q8_is_a_quarter_as_large_and_close(plain, source, folder, full):
    export.write_gguf(*plain, source, folder / "small.gguf", "Q8_0")
    assert 0.25 < (folder / "small.gguf").stat().st_size / full[0].stat().st_size < 0.3
    exact = {t.name: t.data for t in full[1].tensors}
    for tensor in gguf.GGUFReader(folder / "small.gguf").tensors[1:12]:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        allowed = 0 if tensor.name.endswith("norm.weight") else 0.57 / 127  # half a step, and its scale is rounded
        wrong = np.abs(weights - exact[tensor.name]).reshape(-1, 32).max(axis=1)
        assert (wrong <= allowed * np.abs(exact[tensor.name]).reshape(-1, 32).max(axis=1)).all(), tensor.name


def small_llama(**changes):
    """A random model with the embedded one's vocabulary and another shape, its output matrix one of its own."""
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "vocab_size": 49152, "max_position_embeddings": 512, "rms_norm_eps": 1e-6}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**shape | more | changes)).eval()


def test_a_model_of_another_shape_says_the_same_words(source, folder, tokenizer):
    model = small_llama(initializer_range=0.2)
    export.write_gguf(model, tokenizer, source, folder / "other.gguf", "F32")
    served = Engine(folder / "other.gguf", "other", slots=1)
    try:
        assert says_the_same(served, model, tokenizer, [1000, 2000, 3000])
    finally:
        served.close()


def test_another_stop_token_and_another_shape_are_written_and_what_is_no_llama_is_not(tmp_path, source, small_base):
    raw = models.load_tokenizer(small_base)  # a base that was never taught to chat
    raw.eos_token = raw.pad_token = "<|endoftext|>"
    export.write_gguf(small_llama(), raw, source, tmp_path / "x.gguf", "F32")
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    for part in ("eos", "padding"):
        assert fields[f"tokenizer.ggml.{part}_token_id"].contents() == raw.eos_token_id != 2
    (tmp_path / "x.gguf").unlink()
    tokenizer = models.load_tokenizer()
    rope = {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}
    for changes in ({"head_dim": 8}, {"attention_bias": True}, rope):
        with pytest.raises(CourseError, match=r"no plain LLaMA.*finetune\.merge.*convert_hf_to_gguf\.py"):
            export.write_gguf(small_llama(**changes), tokenizer, source, tmp_path / "x.gguf", "F32")
    with pytest.raises(CourseError, match=r"Q4_K.*F32, Q8_0"):
        finetune.export_gguf(ADAPTER, out=tmp_path / "x.gguf", kind="Q4_K")
    with pytest.raises(CourseError, match="holds no LoRA adapter"):
        finetune.merge(tmp_path / "nothing", out=tmp_path / "out")
    with pytest.raises(CourseError, match="can't be merged without losing the update"):
        finetune.merge(ADAPTER, small_base, tmp_path / "out", "int4")
    tokenizer.add_tokens(["<|brand-new|>"])
    with pytest.raises(CourseError, match="with the tokenizer of"):
        export.write_gguf(small_llama(), tokenizer, source, tmp_path / "x.gguf", "F32")
    assert not list(tmp_path.iterdir())
