"""Helpers of the Baize notebook course: seeds, self-chat, corpus, LoRA fine-tuning and chat."""

import logging

__version__ = "0.1.0"

# Where it is installed, it says at import what a processor lacks, and at each layer of each pass that inputs are cast.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
