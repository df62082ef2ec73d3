"""ChatSession: a chat with a model of transformers in this process.

Knows: how tokens become a reply, one at a time. Does not know: widgets, how a model is loaded, how it is read
(reading.py), or how a token is chosen (sampling.py). Built in notebook 05.
"""

from ..reading import Interrupted, Reader
from ..sampling import Decoder, penalise, pick
from .conversation import Conversation
from .prompts import BaizePrompt, disarm


class ChatSession(Conversation):
    """One conversation with one model.

    model, tokenizer : from models.load; bare or with a LoRA adapter.
    context          : tokens of prompt and reply together; None takes all that the model can read.
    adapter          : False talks to the base model under a LoRA adapter, without loading it twice.
    closes           : as in `BaizePrompt`; False only for the released Baize models.
    The other settings are those of `Conversation`.
    """

    def __init__(
        self,
        model,
        tokenizer,
        max_new_tokens=None,
        temperature=1.0,
        top_p=0.95,
        repetition_penalty=1.0,
        seed=0,
        context=None,
        adapter=True,
        guard=None,
        closes=True,
    ):
        self.tokenizer = tokenizer
        self._prompt = BaizePrompt(tokenizer, closes)
        context = context or getattr(model.config, "max_position_embeddings", 2048)
        super().__init__(max_new_tokens, temperature, top_p, repetition_penalty, seed, context, guard)
        self._reader = Reader(model, adapter, self._stopping.is_set)

    def clear(self):
        """Forget the conversation and start the random numbers again."""
        super().clear()
        # Keys that were computed in other steps differ in the last digit, and so would what the dice choose.
        self._reader.forget()

    def prompt(self, text):
        """What the model will read before it answers `text`, as text: preamble, the turns that fit, an open AI turn."""
        return self._prompt.text(self._window(self.messages, text), self._preamble)

    def settings(self):
        """The settings that shape a reply, as a dictionary that json can write."""
        name = self.tokenizer.name_or_path.replace("\\", "/").split("/")[-1]
        return {"model": name, "adapter": self._reader.adapter} | super().settings()

    def _read(self, messages):
        return disarm(messages)

    def _length(self, messages):
        return self._prompt.length(messages, self._preamble)

    def _write(self, messages):
        """(text, 1) for each token; the text is None for a special token, which no answer can hold: it ends one."""
        decoder, special = Decoder(self.tokenizer), set(self.tokenizer.all_special_ids)
        for token in self._sample(self._prompt.encode(messages, self._preamble)):
            yield (None if token in special else decoder.push(token)), 1

    def _sample(self, ids):
        """Token ids, one at a time, `max_new_tokens` of them or until `stop`. ids: the prompt."""
        import torch

        said, generator = [], torch.Generator().manual_seed(self._dice)
        while len(said) < min(self.max_new_tokens, self.context - len(ids)):  # either may change meanwhile
            try:
                logits = penalise(self._reader.logits(ids + said), said, self.repetition_penalty)
            except Interrupted:
                return
            if not said:  # after a short training the stop can come before the first word; an answer has one at least
                logits = logits.clone()
                logits[self.tokenizer.all_special_ids] = float("-inf")
            said.append(pick(logits, self.temperature, self.top_p, generator))
            yield said[-1]
