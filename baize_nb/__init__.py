"""Helpers of the Baize notebook course: seeds, self-chat, corpus, LoRA fine-tuning and chat."""

__version__ = "0.1.0"
