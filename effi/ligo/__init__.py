"""LiGO: learning to grow a trained Transformer into a larger one, beside other ways to begin a large model."""

from effi.ligo.building import open_data, readers
from effi.ligo.experiment import Experiment, source_of, sources_of
from effi.ligo.inheritance import Distilled
from effi.ligo.operator import Growth, GrowthOperator
from effi.ligo.progressive import Progressive, Stage
from effi.ligo.reaching import reached, saved
from effi.ligo.recipes import Ligo, Rival, Scratch
from effi.ligo.rivals import RIVALS
from effi.ligo.savings import savings
from effi.ligo.settings import Model, Pair, Settings, Source
from effi.ligo.storage import load, save
from effi.ligo.thrift import LayerDrop, SubNetworks, TokenDrop
from effi.ligo.transfer import Transfer
from effi.ligo.tuning import Grown, export, two_stage_gradients

__all__ = [
    "RIVALS",
    "Distilled",
    "Experiment",
    "Grown",
    "Growth",
    "GrowthOperator",
    "LayerDrop",
    "Ligo",
    "Model",
    "Pair",
    "Progressive",
    "Rival",
    "Scratch",
    "Settings",
    "Source",
    "Stage",
    "SubNetworks",
    "TokenDrop",
    "Transfer",
    "export",
    "load",
    "open_data",
    "reached",
    "readers",
    "save",
    "saved",
    "savings",
    "source_of",
    "sources_of",
    "two_stage_gradients",
]
