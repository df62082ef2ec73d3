"""One token after another: choosing it from the logits, and turning tokens back into text.

Knows: logits and a tokenizer. Does not know: models (reading.py), chats, roles or markers. Built in notebook 05.
"""


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
