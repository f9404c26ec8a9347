"""What would each trick save on one's own data? The notebooks' functions within a given time, and one table."""

from effi.advice.advising import Advice, advise
from effi.advice.budget import seconds_of
from effi.advice.page import save

__all__ = ["Advice", "advise", "save", "seconds_of"]
