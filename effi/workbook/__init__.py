"""The workbook as a batch: notebooks found, parameters checked, each notebook executed in a process of its own."""

from effi.workbook.batch import Outcome, run
from effi.workbook.notebook import SCALES, Notebook, Parameter, check, find, notebooks, open_notebook, parameters
from effi.workbook.plan import dry_run

__all__ = [
    "SCALES",
    "Notebook",
    "Outcome",
    "Parameter",
    "check",
    "dry_run",
    "find",
    "notebooks",
    "open_notebook",
    "parameters",
    "run",
]
