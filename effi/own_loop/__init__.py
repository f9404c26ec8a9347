"""The methods in one's own loop: listeners of a plain one, callbacks of transformers' Trainer, grown checkpoints.

The callbacks are in `effi.own_loop.callbacks`, which imports transformers, and growth is in `effi.own_loop.growing`.
"""

from effi.own_loop.early_bird import EarlyBird
from effi.own_loop.listening import Listening
from effi.own_loop.topology import mixed_sparsity

__all__ = ["EarlyBird", "Listening", "mixed_sparsity"]
