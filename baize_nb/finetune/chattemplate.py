"""The Baize format as a Jinja chat template: what programs that are not this course need to write the same prompt.

Knows: how transcript.prompt is said in Jinja. Does not know: files, models. Built in notebook 05.
transformers, llama.cpp and LM Studio read such a template from the model's own files. Ollama has a language of its own
for the purpose; its words stand in the model card.
"""

from .. import transcript
from .tokens import start

# Only `replace` as a method, `+` and `if`: every Jinja that these programs carry knows them. The marker that somebody
# typed gets its backslash as transcript does it; one with a backslash already gets a second, so that reading the
# text again gives the first. With two or more it is left alone: it opens no turn as it is.
_ESCAPES = "".join(
    f".replace({typed!r}, {written!r})"
    for name in ("Human", "AI")
    for typed, written in ((f"[\\|{name}|]", f"[\\\\|{name}|]"), (f"[|{name}|]", f"[\\|{name}|]"))
)
_PREAMBLE = """\
{%- if messages[0]['role'] == 'system' -%}
    {{- messages[0]['content'] + '\\n' if messages[0]['content'] else '' -}}
{%- else -%}
    {{- PREAMBLE -}}
{%- endif -%}
"""
_TURNS = """\
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {{- 'HUMAN ' + message['content']ESCAPES + '\\n' -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- 'AI ' + message['content']ESCAPES + eos_token + '\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- 'AI' -}}
{%- endif -%}
"""


def chat_template(tokenizer):
    """Jinja text that writes transcript.prompt, for `tokenizer.chat_template` and a GGUF file's metadata.

    A system message takes the place of the preamble (an empty one: no preamble at all).
    What a template can't do: keep a typed special token from being one, as finetune.encode_prompt does.
    """
    begin = "{{- bos_token -}}\n" if start(tokenizer) else ""
    turns = _TURNS.replace("HUMAN", transcript.HUMAN).replace("'AI", f"'{transcript.AI}")
    return begin + _PREAMBLE.replace("PREAMBLE", repr(transcript.PREAMBLE)) + turns.replace("ESCAPES", _ESCAPES)
