"""Training and evaluation: one loop for every paper."""

from effi.training.loop import History, Replicas, Single, Training, bf16_pays, fit, stepper

__all__ = ["History", "Replicas", "Single", "Training", "bf16_pays", "fit", "stepper"]
