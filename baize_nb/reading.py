"""Reading: the logits after a sequence of tokens; nothing is read twice, and a reader can be interrupted.

Knows: a causal language model of `transformers`, bare or with a LoRA adapter. Does not know: sampling, chats, roles.
Built in notebook 05.
"""

import contextlib
import copy
import threading
import weakref

# Two sessions may share a model, and one of them may want it without its adapter.
_ONE_AT_A_TIME = threading.Lock()
# What readers read with, as long as one of them lives: many sessions of one model share one copy of its weights.
_SUMMED = weakref.WeakValueDictionary()


class Interrupted(Exception):
    """Reading ended early, since somebody wished so."""


class Reader:
    """The model's logits after a sequence of tokens; what it has read before is not read again.

    The keys and values of earlier tokens (`past_key_values`) don't change when tokens follow, so they are kept, within
    a reply and from one turn to the next.

    adapter     : False reads without the LoRA adapter on `model`. With it, the adapter counts as it is at first use.
    interrupted : asked in every layer; True ends the reading, however long the text is.
    """

    def __init__(self, model, adapter, interrupted=lambda: False):
        self._given, self._interrupted = model, interrupted
        self.adapter = adapter and hasattr(model, "disable_adapter")
        self._model = None
        self.forget()

    def forget(self):
        """Begin anew: nothing was read."""
        self._ids, self._cache = [], None

    def logits(self, ids):
        """Logits (vocabulary,), float32 on the CPU, of the token that follows `ids`. Raises Interrupted."""
        import torch

        if self._model is None:  # only now: a session that is never asked needs no second copy of the weights
            self._model = _shared(self._given, self.adapter)
        cache = self._rewind(_common(self._ids, ids[:-1]))  # at least one token is new: logits come from reading
        new = torch.tensor([ids[len(self._ids) :]], device=self._given.device)
        known, self._ids, self._cache = self._ids, [], None  # an interrupt while reading leaves half a cache: drop it
        with torch.inference_mode(), _adapter_set(self._model, self.adapter):
            out = self._model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._ids, self._cache = known + new[0].tolist(), out.past_key_values
        return out.logits[0, -1].float().cpu()

    def _rewind(self, length):
        """Forget all but the first `length` tokens; return the cache."""
        if length == 0:
            self._cache = _empty_cache(self._given.config, self._interrupted)
        elif length < len(self._ids):
            self._cache.crop(length - len(self._ids))
        self._ids = self._ids[:length]
        return self._cache


def _common(first, second):
    """How many leading items two lists share."""
    if second[: len(first)] == first:
        return len(first)
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _empty_cache(config, interrupted):
    """A cache that does not copy itself whole at each token: its layers keep room for tokens to come.

    Each layer of the model comes by here, so this is also where reading can end early.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class Roomy(DynamicLayer):
        """Keys and values (batch, heads, tokens, width) are views into buffers that double when they are full."""

        def update(self, key_states, value_states, *args, **kwargs):
            if interrupted():
                raise Interrupted
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys = self._extend("_key_room", self.keys, key_states)
            self.values = self._extend("_value_room", self.values, value_states)
            return self.keys, self.values

        def _extend(self, name, old, new):
            known = 0 if old is None else old.shape[-2]
            length, room = known + new.shape[-2], getattr(self, name, None)
            if room is None or room.shape[-2] < length:
                room = new.new_empty((*new.shape[:-2], 2 * length, new.shape[-1]))
                if known:
                    room[..., :known, :] = old
                setattr(self, name, room)
            room[..., known:length, :] = new
            return room[..., :length, :]

    cache = DynamicCache(config=config)
    cache.layers = [Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _shared(model, adapter):
    """`without_lora`, made once for all readers of a model whose LoRA layers are the same and in the same state."""
    if not hasattr(model, "peft_config"):
        return model
    # PyTorch counts the changes of each tensor: after another training step the sum is another one.
    changes = sum(weight._version for name, weight in model.named_parameters() if ".lora_" in name)
    # A reader keeps its model, so no other model can have that id meanwhile.
    key = id(model), adapter, changes, *model.active_adapters
    twin = _SUMMED.get(key)
    if twin is None:
        twin = _SUMMED[key] = without_lora(model, adapter)
    return twin


def without_lora(model, adapter=True):
    """`model` with plain layers in place of its LoRA layers; everything else is shared with it, and it is unchanged.

    A LoRA layer is four small steps beside a large one, and a token waits for each of them. With `adapter` their sum is
    a copy of the large weights (memory for those layers a second time); without it, the base layer itself, no copy.
    Only float32 weights are summed: in half precision a small change would be rounded away. There, and on models
    spread over devices or with other adapters than LoRA, `model` comes back as it is.
    """
    import torch

    if not hasattr(model, "peft_config") or not _can_be_summed(model):
        return model
    with torch.no_grad():
        return _plain(model.get_base_model(), adapter)


def _can_be_summed(model):
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    lora = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return all(layer.get_base_layer().weight.dtype == torch.float32 and not layer.merged for layer in lora) and not any(
        isinstance(module, AuxiliaryTrainingWrapper) or hasattr(module, "_hf_hook") for module in model.modules()
    )


def _plain(module, adapter):
    """A twin of a module: its own list of children, the same parameters."""
    from peft.tuners.lora import LoraLayer

    twin = copy.copy(module)
    twin._modules = {name: _plain(child, adapter) for name, child in module._modules.items()}
    if not isinstance(module, LoraLayer):
        return twin
    if not adapter:
        return module.get_base_layer()
    twin._modules["base_layer"], twin.merged_adapters = copy.deepcopy(module.get_base_layer()), []
    twin.merge()
    return twin.get_base_layer()


@contextlib.contextmanager
def _adapter_set(model, on):
    """The model with or without its LoRA layers inside the block, for one reader at a time: they are the model's own.

    Quicker than peft's `disable_adapter`, which inspects every layer first.
    """
    if not hasattr(model, "disable_adapter"):
        yield
        return
    with _ONE_AT_A_TIME:
        if not on:
            model.base_model.disable_adapter_layers()
        try:
            yield
        finally:
            if not on:
                model.base_model.enable_adapter_layers()
