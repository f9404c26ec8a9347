"""The methods in one's own loop: as listeners of a plain torch loop, as callbacks of transformers' Trainer."""

from effi.own_loop.early_bird import EarlyBird
from effi.own_loop.listening import Listening

__all__ = ["EarlyBird", "Listening"]
