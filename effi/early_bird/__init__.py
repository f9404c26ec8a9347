"""Early-bird tickets in Transformers: when a mask settles, what a ticket is, and other ways to choose what to prune."""

from effi.early_bird.building import VISION, build, narrow
from effi.early_bird.criteria import scores
from effi.early_bird.experiment import Experiment
from effi.early_bird.groups import LANGUAGE, PUBLISHED, kinds, text_model, vision_model
from effi.early_bird.outcome import distance_ratios, outcome
from effi.early_bird.search import Found, Search, reading, summary
from effi.early_bird.settings import Model, Pretraining, Removal, Settings
from effi.early_bird.structured import Log, Penalty, draw, draw_step, kept_share, relative_cost
from effi.early_bird.ticket import Ticket, exact
from effi.masks import RULES, TicketDetector, first_draw

__all__ = [
    "LANGUAGE",
    "PUBLISHED",
    "RULES",
    "VISION",
    "Experiment",
    "Found",
    "Log",
    "Model",
    "Penalty",
    "Pretraining",
    "Removal",
    "Search",
    "Settings",
    "Ticket",
    "TicketDetector",
    "build",
    "distance_ratios",
    "draw",
    "draw_step",
    "exact",
    "first_draw",
    "kept_share",
    "kinds",
    "narrow",
    "outcome",
    "reading",
    "relative_cost",
    "scores",
    "summary",
    "text_model",
    "vision_model",
]
