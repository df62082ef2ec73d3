"""The next token: logits with a cache, sampling, and tokens back to text. Where a reply ends stands in chat.py."""

import contextlib
import copy
import threading
import weakref

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_ONE_AT_A_TIME = threading.Lock()  # of those who switch the LoRA layers of a model that others use too
_PLAIN = weakref.WeakValueDictionary()  # what `without_lora` made and somebody still uses


class Interrupted(Exception):
    """A forward pass ended early, since somebody wished so."""


class InterruptibleCache(DynamicCache):
    """Each layer brings its keys and values here, so the reading of a long text can end between two layers."""

    def __init__(self, config, interrupted):
        super().__init__(config=config)
        self._interrupted = interrupted
        # A sliding window could not go back to an earlier turn. All is kept; the model's mask hides what has left it.
        self.layers = [DynamicLayer() if type(x) is DynamicSlidingWindowLayer else x for x in self.layers]

    def update(self, *args, **kwargs):
        if self._interrupted():
            raise Interrupted
        return super().update(*args, **kwargs)


class CachedModel:
    """The logits of a causal language model after a sequence of tokens, none of which is read twice.

    The keys and values of earlier tokens don't change when tokens follow, so they are kept, from turn to turn too.

    adapter     : False reads without the LoRA adapter on `model`; with it, it counts as it is at first use.
    interrupted : asked in every layer; True ends the reading.
    """

    def __init__(self, model, adapter=True, interrupted=lambda: False):
        self.given, self._interrupted = model, interrupted
        self.adapter = adapter and hasattr(model, "disable_adapter")
        self.model = None  # what is really read with; made at the first question, for it may be a copy
        self.reset()

    def reset(self) -> None:
        """Forget every token that was read."""
        self._ids, self._cache = [], None

    def logits(self, ids: list[int]):
        """Return the logits (vocabulary,), float32 on the CPU, of the token that follows `ids`. Raises Interrupted."""
        if self.model is None:
            self.model = without_lora(self.given) if self.adapter else self.given
        cache, cached, known = self._cache, len(self._ids), 0
        for old, new in zip(self._ids, ids[:-1], strict=False):  # the last one is read again: its logits are wanted
            if old != new:
                break
            known += 1
        self.reset()  # an interrupt while reading leaves half a cache: drop it
        if 0 < known < cached:
            try:
                cache.crop(known - cached)
            except RuntimeError:  # linear attention holds all tokens as one
                known = 0
        if known == 0:
            cache = InterruptibleCache(self.given.config, self._interrupted)
        new = torch.tensor([ids[known:]], device=self.given.device)  # (1, new tokens)
        # LoRA layers that were left are switched on or off for everybody: they are the model's own.
        layered = hasattr(self.model, "disable_adapter")
        alone = _ONE_AT_A_TIME if layered else contextlib.nullcontext()
        off = self.model.disable_adapter() if layered and not self.adapter else contextlib.nullcontext()
        with alone, off, torch.inference_mode():
            out = self.model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._ids, self._cache = list(ids), out.past_key_values
        return out.logits[0, -1].float().cpu()


def without_lora(model):
    """Return a copy of `model` with LoRA's layers added to the plain ones; the same copy again while it is in use.

    A LoRA layer is four small steps beside a large one, and a token waits for each of them. In half precision a small
    change would be rounded away: there, and where peft can't merge, `model` itself comes back.
    """
    if not hasattr(model, "peft_config") or any(p.dtype != torch.float32 for p in model.parameters()):
        return model
    # PyTorch counts the changes of each tensor: after another training step the sum is another one.
    changes = sum(weight._version for name, weight in model.named_parameters() if ".lora_" in name)
    key = id(model), changes, *model.active_adapters
    twin = _PLAIN.get(key)
    if twin is None:
        try:
            twin = _PLAIN[key] = copy.deepcopy(model).merge_and_unload()
        except RuntimeError:  # a bias of LoRA's with no bias under it to add it to
            return model
    return twin


def penalize_repetition(logits, said: list[int], penalty: float):
    """Return the logits with every token of `said` made less likely by `penalty` > 1 (CTRL, arXiv 1909.05858, 4.1).

    said : this reply's tokens only. With the prompt's in it as well, the stop token of each earlier turn would be
           punished too, and a long conversation would forget how to stop.
    """
    if penalty != 1 and said:
        logits = logits.clone()
        chosen = logits[said]
        logits[said] = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


def sample_token(logits, temperature: float, top_p: float, rng) -> int:
    """Draw one token id from `logits` (vocabulary,).

    temperature : below 1 sharpens, above 1 flattens; 0 takes the likeliest.
    top_p       : draw from the fewest likeliest tokens whose probabilities reach it (arXiv 1904.09751); 1 is all.
    rng         : a torch.Generator.
    """
    if temperature == 0:
        return int(logits.argmax())
    chances = torch.softmax(logits / temperature, dim=-1)
    # Tokens below this weigh less than 1 - top_p all together: leaving them out spares sorting a whole vocabulary.
    tokens = (chances > (1 - top_p) / len(chances)).nonzero().squeeze(-1)
    chances, order = chances[tokens].sort(descending=True)
    keep = chances.cumsum(dim=-1) - chances < top_p  # the first one always: nothing stands before it
    return int(tokens[order[torch.multinomial(chances * keep, 1, generator=rng)]])


class StreamDecoder:
    """Tokens → text, one token at a time. A token can be a part of a character, so incomplete ones wait.

    The few tokens before them are decoded along: some tokenizers drop the space in front of whatever stands first.
    """

    def __init__(self, tokenizer):
        self.tokenizer, self.before, self.waiting = tokenizer, [], []

    def push(self, token: int) -> str:
        """Return the text that `token` completes; "" while its character is incomplete."""
        self.waiting.append(token)
        text = self._text(self.before + self.waiting)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        new = text[len(self._text(self.before)) :]
        self.before, self.waiting = self.waiting, []
        return new

    def _text(self, ids):
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
