"""Solutions of notebook 04, one function per exercise."""


def rank_for(shapes, budget):
    """The largest rank whose LoRA on matrices of these (outputs, inputs) has at most `budget` parameters."""
    return budget // sum(outputs + inputs for outputs, inputs in shapes)


def loss_mask(parts, length, pad_id):
    """(input_ids, labels) of parts [(ids, learn)], padded on the right to `length`."""
    input_ids, labels = [], []
    for ids, learn in parts:
        input_ids += ids
        labels += ids if learn else [-100] * len(ids)
    missing = length - len(input_ids)
    return input_ids + [pad_id] * missing, labels + [-100] * missing


def lora_forward(x, W, A, B, alpha):
    """Output of a linear layer (W) with LoRA (A, B) on it. x: (rows, inputs); result: (rows, outputs)."""
    rank = A.shape[0]
    return x @ W.T + alpha / rank * (x @ A.T @ B.T)
