"""Training and evaluation: one loop for every paper."""

from effi.training.evaluation import Outcome, evaluate, outcome
from effi.training.history import History
from effi.training.loop import bf16_pays, fit, stepper
from effi.training.networks import Replicas, Single
from effi.training.objectives import Classification, Contrastive, LanguageModelling, Objective, Regression
from effi.training.settings import Group, Training
from effi.training.states import MovingAverage, average, interpolate
from effi.training.step import Listener, Step

__all__ = [
    "Classification",
    "Contrastive",
    "Group",
    "History",
    "LanguageModelling",
    "Listener",
    "MovingAverage",
    "Objective",
    "Outcome",
    "Regression",
    "Replicas",
    "Single",
    "Step",
    "Training",
    "average",
    "bf16_pays",
    "evaluate",
    "fit",
    "interpolate",
    "outcome",
    "stepper",
]
