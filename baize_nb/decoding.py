"""From tokens to the next token and back to text: logits with a KV cache, sampling, what may be shown of a reply.

torch and transformers are imported where they are needed: a chat with an endpoint does without them.
"""

import contextlib
import copy
import re
import threading
import weakref

_ONE_AT_A_TIME = threading.Lock()  # two sessions may share a model, and one of them may want it without its adapter
_MERGED = weakref.WeakValueDictionary()  # merged models in use: the sessions of one model share one copy of its weights


class Interrupted(Exception):
    """A forward pass ended early, since somebody wished so."""


class CachedModel:
    """The logits of a causal language model after a sequence of tokens, none of which is read twice.

    The keys and values of earlier tokens don't change when tokens follow, so they are kept, from turn to turn too.

    adapter     : False reads without the LoRA adapter on `model`; with it, it counts as it is at first use.
    interrupted : asked in every layer; True ends the reading, however long the text is.
    """

    def __init__(self, model, adapter=True, interrupted=lambda: False):
        self.given, self._interrupted = model, interrupted
        self.adapter = adapter and hasattr(model, "disable_adapter")
        self.model = None  # what is really read with; made at the first question, for it may need a copy of the weights
        self.reset()

    def reset(self) -> None:
        """Forget every token that was read."""
        self._ids, self._cache = [], None

    def logits(self, ids: list[int]):
        """Return the logits (vocabulary,), float32 on the CPU, of the token that follows `ids`. Raises Interrupted."""
        import torch

        if self.model is None:
            self.model = _merged(self.given, self.adapter)
        cache, cached = self._cache, len(self._ids)
        known = cached  # at each further token of a reply; else as many as the two lists share, the last one left out
        if self._ids != ids[:-1][:cached]:
            known = next(i for i, (a, b) in enumerate(zip(self._ids, [*ids[:-1], None], strict=False)) if a != b)
        self.reset()  # an interrupt while reading leaves half a cache: drop it
        if known < cached and not all(hasattr(layer, "rewinds") for layer in cache.layers):
            known = 0  # a state of linear attention, say, holds all tokens at once: read anew
        if known == 0:
            cache = _growing_cache(self.given.config, self._interrupted)
        elif known < cached:
            cache.crop(known - cached)
        new = torch.tensor([ids[known:]], device=self.given.device)  # (1, new tokens)
        # Without it the LoRA layers are switched off for a moment, for everybody: they are the model's own.
        layered = hasattr(self.model, "disable_adapter")
        off = self.model.disable_adapter() if layered and not self.adapter else contextlib.nullcontext()
        with _ONE_AT_A_TIME if layered else contextlib.nullcontext(), off, torch.inference_mode():
            out = self.model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._ids, self._cache = list(ids), out.past_key_values
        return out.logits[0, -1].float().cpu()


def _growing_cache(config, interrupted):
    """A cache that does not copy itself whole at each token; each layer comes by here, so reading can end early here.

    Layers with a sliding window (Mistral, Gemma) keep what has left it too, or they could not go back to an earlier
    turn; the model's mask hides it.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    class GrowingLayer(DynamicLayer):
        """Keys and values (batch, heads, tokens, width) are views into buffers that double when they are full."""

        rewinds = True

        def update(self, key_states, value_states, *args, **kwargs):
            if interrupted():
                raise Interrupted
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys = self._extend("_key_buffer", self.keys, key_states)
            self.values = self._extend("_value_buffer", self.values, value_states)
            return self.keys, self.values

        def _extend(self, name, old, new):
            known = 0 if old is None else old.shape[-2]
            length, buffer = known + new.shape[-2], getattr(self, name, None)
            if buffer is None or buffer.shape[-2] < length:
                buffer = new.new_empty((*new.shape[:-2], 2 * length, new.shape[-1]))
                if known:
                    buffer[..., :known, :] = old
                setattr(self, name, buffer)
            buffer[..., known:length, :] = new
            return buffer[..., :length, :]

    cache = DynamicCache(config=config)
    growing = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [GrowingLayer() if type(layer) in growing else layer for layer in cache.layers]
    return cache


def _merged(model, adapter):
    """`without_lora`, made once for all sessions of a model whose LoRA layers are the same and in the same state."""
    if not hasattr(model, "peft_config"):
        return model
    # PyTorch counts the changes of each tensor: after another training step the sum is another one.
    changes = sum(weight._version for name, weight in model.named_parameters() if ".lora_" in name)
    # A session keeps its model, so no other model can have that id meanwhile.
    key = id(model), adapter, changes, *model.active_adapters
    twin = _MERGED.get(key)
    if twin is None:
        twin = _MERGED[key] = without_lora(model, adapter)
    return twin


def without_lora(model, adapter: bool = True):
    """Return `model` with plain layers in place of its LoRA layers; the rest is shared with it, and it is unchanged.

    A LoRA layer is four small steps beside a large one, and a token waits for each of them. With `adapter` their sum is
    a copy of the large weights; without it, the base layer itself. Only float32 weights are summed: in half precision
    a small change would be rounded away. There, and on models spread over devices or with other trained parts than
    LoRA layers, `model` comes back as it is.
    """
    if not hasattr(model, "peft_config"):
        return model
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for module in model.modules():
        if isinstance(module, AuxiliaryTrainingWrapper) or hasattr(module, "_hf_hook"):
            return model
        if isinstance(module, LoraLayer):
            summable = module.get_base_layer().weight.dtype == torch.float32 or not adapter
            if module.merged or not summable or any(module.lora_bias.values()):
                return model  # a base layer without a bias can't take up LoRA's

    def plain(module):
        """A twin of a module: its own list of children, the same parameters."""
        twin = copy.copy(module)
        twin._modules = {name: plain(child) for name, child in module._modules.items()}
        if not isinstance(module, LoraLayer):
            return twin
        if not adapter:
            return module.get_base_layer()
        twin._modules["base_layer"], twin.merged_adapters = copy.deepcopy(module.get_base_layer()), []
        twin.merge()
        return twin.get_base_layer()

    with torch.no_grad():
        return plain(model.get_base_model())


def penalize_repetition(logits, said: list[int], penalty: float):
    """Return the logits with every token of `said` made less likely by `penalty` > 1 (CTRL, arXiv 1909.05858, 4.1).

    said : this reply's tokens only. With the prompt's in it as well, the stop token of each earlier turn would be
           punished too, and a long conversation would forget how to stop.
    """
    if penalty != 1 and said:
        logits = logits.clone()
        chosen = logits[said]
        logits[said] = chosen.where(chosen < 0, chosen / penalty).where(chosen > 0, chosen * penalty)
    return logits


def sample_token(logits, temperature: float, top_p: float, rng) -> int:
    """Draw one token id from `logits` (vocabulary,).

    temperature : below 1 sharpens, above 1 flattens; 0 takes the likeliest.
    top_p       : draw from the fewest likeliest tokens whose probabilities reach it (arXiv 1904.09751); 1 is all.
    rng         : a torch.Generator.
    """
    import torch

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


# Where a reply ends even if the stop token does not come: the model has begun to write the other's turn.
# A model that was not tuned on the format often drops a bar, as the first version's prompt did ([Human], [AI]).
STOPS = tuple(f"[{left}{who}{right}]" for who in ("Human", "AI") for left in ("|", "") for right in ("|", ""))


_LINK = re.compile(r"\[(?:Human|AI)\]\(")  # Markdown: [AI](https://…) is a link, no marker


def release(text: str, stops: tuple = STOPS, ended: bool = False) -> tuple[str, str, bool]:
    """Split reply text that is not on the screen yet into (show, hold, closed).

    show   : what is certain to belong to the reply.
    hold   : the tail that may be the start of a marker or of a link, and white space that may stand before one.
    closed : a whole marker was found; it and all that follows is gone.
    ended  : nothing follows, so a marker at the very end is one.
    """
    masked = _LINK.sub(lambda link: "." * len(link[0]), text)
    found = [(masked.find(stop), stop) for stop in stops if stop in masked]
    start, stop = min(found, default=(len(text), ""))
    may_be_link = stop and "|" not in stop and start + len(stop) == len(text) and not ended
    if stop and not may_be_link:
        return text[:start].rstrip(), "", True
    if not stop:
        tails = (i for i in range(len(text)) if any(stop.startswith(masked[i:]) for stop in stops))
        start = next(tails, len(text))
    start = len(text[:start].rstrip())
    return text[:start], text[start:], False


class StopFilter:
    """What of a reply may be shown while it comes. `shown`: all that was; `closed`: a marker ended the reply."""

    def __init__(self, stops: tuple = STOPS):
        self.shown, self.held, self.closed, self.stops = "", "", False, stops

    def push(self, text: str) -> str:
        """Take new text; return the part that can be shown now."""
        if self.closed:
            return ""
        self.held += text
        if not self.shown:
            self.held = self.held.lstrip()  # training text has one space after the marker
        show, self.held, self.closed = release(self.held, self.stops)
        self.shown += show
        return show

    def finish(self) -> bool:
        """Tell whether a marker ended the reply, now that nothing follows."""
        self.closed = self.closed or release(self.held, self.stops, ended=True)[2]
        return self.closed
