"""From 160 dialogues to 115 thousand and on: what it takes, and how many machines share it. Ray is needed only where
work is shared (`cluster.local`, `shards.generate`, `pooled`); it comes with the `scale` extra."""

from pathlib import Path

LAUNCH = Path(__file__).resolve().parent / "launch"  # accelerate's settings for training in several processes
