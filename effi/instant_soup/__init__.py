"""Instant Soup: pruning by the votes of briefly trained copies in one training, and what it is compared with."""

from effi.instant_soup.costs import Bill, bill
from effi.instant_soup.criteria import scores
from effi.instant_soup.denoise import Denoised, Denoiser, by_level, denoised_prune, perturbed
from effi.instant_soup.early_bird import Watch, early_bird
from effi.instant_soup.experiment import Experiment
from effi.instant_soup.flops import SparseFlops
from effi.instant_soup.gradual import Gradually, cubic, progressive, prune_gradually
from effi.instant_soup.groups import PUBLISHED, published_clip, reader, taught, text_model
from effi.instant_soup.ingredients import Ingredients, Souped, mix, model_soup
from effi.instant_soup.judge import Judge, line_search
from effi.instant_soup.lottery import Climb, Drawn, Trained, lottery_rounds, lottery_ticket
from effi.instant_soup.noise import Noise, Protocol, draw
from effi.instant_soup.overlaps import cosine, kept_overlap, pair_overlap, pruned_overlap, shared_prunes
from effi.instant_soup.pruned import Pruned
from effi.instant_soup.recipes import (
    Averaged,
    Cut,
    Dense,
    EarlyBird,
    Gradual,
    Longer,
    Lottery,
    Mixed,
    Noisy,
    Paced,
    Pool,
    Recipe,
    Rung,
    Soup,
    Task,
)
from effi.instant_soup.rounds import Rounds
from effi.instant_soup.settings import Model, Pretraining, Settings
from effi.instant_soup.soup import InstantSoup, instant_soup
from effi.instant_soup.soups import fine_tunes, greedy_soup, lottery_pool
from effi.instant_soup.weak_nets import Look, fastest, look_ahead, nets_at_once, seconds_of_ways

__all__ = [
    "PUBLISHED",
    "Averaged",
    "Bill",
    "Climb",
    "Cut",
    "Denoised",
    "Denoiser",
    "Dense",
    "Drawn",
    "EarlyBird",
    "Experiment",
    "Gradual",
    "Gradually",
    "Ingredients",
    "InstantSoup",
    "Judge",
    "Longer",
    "Look",
    "Lottery",
    "Mixed",
    "Model",
    "Noise",
    "Noisy",
    "Paced",
    "Pool",
    "Pretraining",
    "Protocol",
    "Pruned",
    "Recipe",
    "Rounds",
    "Rung",
    "Settings",
    "Soup",
    "Souped",
    "SparseFlops",
    "Task",
    "Trained",
    "Watch",
    "bill",
    "by_level",
    "cosine",
    "cubic",
    "denoised_prune",
    "draw",
    "early_bird",
    "fastest",
    "fine_tunes",
    "greedy_soup",
    "instant_soup",
    "kept_overlap",
    "line_search",
    "look_ahead",
    "lottery_pool",
    "lottery_rounds",
    "lottery_ticket",
    "mix",
    "model_soup",
    "nets_at_once",
    "pair_overlap",
    "perturbed",
    "progressive",
    "prune_gradually",
    "pruned_overlap",
    "published_clip",
    "reader",
    "scores",
    "seconds_of_ways",
    "shared_prunes",
    "taught",
    "text_model",
]
