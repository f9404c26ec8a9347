"""Early-bird tickets in Transformers: when a mask settles, what a ticket is, and other ways to choose what to prune."""

from effi.early_bird.criteria import scores
from effi.early_bird.detector import RULES, TicketDetector, first_draw
from effi.early_bird.search import Found, Search, reading, summary
from effi.early_bird.structured import Log, draw, draw_step, kept_share, penalise, relative_cost
from effi.early_bird.ticket import Ticket, exact

__all__ = [
    "RULES",
    "Found",
    "Log",
    "Search",
    "Ticket",
    "TicketDetector",
    "draw",
    "draw_step",
    "exact",
    "first_draw",
    "kept_share",
    "penalise",
    "reading",
    "relative_cost",
    "scores",
    "summary",
]
