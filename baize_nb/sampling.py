"""One token after another: reading, choosing, and turning tokens back into text.

Knows: a causal language model of `transformers`, bare or with an adapter. Does not know: chats, roles or markers.
Built in notebook 05.
"""

import contextlib
import threading

# Two sessions may share a model, and one of them may want it without its adapter.
_ONE_AT_A_TIME = threading.Lock()


def penalise(logits, said, penalty):
    """Logits with every token of `said` made less likely by `penalty` > 1 (CTRL, arXiv 1909.05858, section 4.1).

    said holds this reply's tokens only. With the prompt's in it as well, the stop token of each earlier turn would be
    punished too, and a long conversation would forget how to stop.
    """
    if penalty != 1 and said:
        logits = logits.clone()
        chosen = logits[said]
        logits[said] = chosen.where(chosen < 0, chosen / penalty).where(chosen > 0, chosen * penalty)
    return logits


def pick(logits, temperature, top_p, generator):
    """One token id drawn from `logits` (vocabulary,). Built in notebook 05.

    temperature : below 1 sharpens, above 1 flattens; 0 takes the likeliest.
    top_p       : draw from the fewest likeliest tokens whose probabilities reach it (arXiv 1904.09751); 1 is all.
    """
    import torch

    if temperature == 0:
        return int(logits.argmax())
    chances = torch.softmax(logits / temperature, dim=-1)
    # Tokens below this weigh less than 1 - top_p all together: leaving them out spares sorting a whole vocabulary.
    tokens = (chances > (1 - top_p) / len(chances)).nonzero().squeeze(-1)
    chances, order = chances[tokens].sort(descending=True)
    keep = chances.cumsum(dim=-1) - chances < top_p  # the first one always: nothing stands before it
    return int(tokens[order[torch.multinomial(chances * keep, 1, generator=generator)]])


class Decoder:
    """Tokens → text, one token at a time. Looks at the tokens of one or two characters, never at the whole reply.

    A token can be a part of a character (an emoji is often three), so incomplete ones wait. The tokens before them are
    decoded along: some tokenizers drop the space in front of whatever stands first.
    """

    def __init__(self, tokenizer):
        self.tokenizer, self.before, self.waiting = tokenizer, [], []

    def push(self, token):
        """The text that `token` completes; "" while its character is incomplete."""
        self.waiting.append(token)
        text = self._text(self.before + self.waiting)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        new = text[len(self._text(self.before)) :]
        self.before, self.waiting = self.waiting, []
        return new

    def _text(self, ids):
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


class Reader:
    """The model's logits after a sequence of tokens; what it has read before is not read again.

    The keys and values of earlier tokens (`past_key_values`) don't change when tokens follow, so they are kept, within
    a reply and from one turn to the next.
    """

    def __init__(self, model, adapter):
        self.model = model
        self._bare = not adapter and hasattr(model, "disable_adapter")
        self._ids, self._cache = [], None

    def logits(self, ids):
        """Logits (vocabulary,), float32 on the CPU, of the token that follows `ids`."""
        import torch

        cache = self._rewind(_common(self._ids, ids[:-1]))  # at least one token is new: logits come from reading
        new = torch.tensor([ids[len(self._ids) :]], device=self.model.device)
        known, self._ids, self._cache = self._ids, [], None  # an interrupt while reading leaves half a cache: drop it
        with _ONE_AT_A_TIME, torch.inference_mode(), _without_adapter(self.model, self._bare):
            out = self.model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._ids, self._cache = known + new[0].tolist(), out.past_key_values
        return out.logits[0, -1].float().cpu()

    def _rewind(self, length):
        """Forget all but the first `length` tokens; return the cache, None where it is empty."""
        if length == 0:
            self._cache = None
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


@contextlib.contextmanager
def _without_adapter(model, bare):
    """The base model inside the block. Quicker than peft's `disable_adapter`, which inspects every layer first."""
    if bare:
        model.base_model.disable_adapter_layers()
    try:
        yield
    finally:
        if bare:
            model.base_model.enable_adapter_layers()
