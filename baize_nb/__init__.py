"""Helpers of the Baize notebook course: seeds, self-chat, corpus, LoRA fine-tuning and chat.

Knows: the version. Each notebook imports the modules it needs, so that `import baize_nb` stays instant
and loads no torch.
"""

__version__ = "0.1.0"
