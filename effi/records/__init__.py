"""Runs, their arms and the records that these leave."""

from effi.records.arms import Arm
from effi.records.artefacts import Artefact
from effi.records.identity import canonical, source_hash
from effi.records.run import Run
from effi.records.store import Record, append, records

__all__ = ["Arm", "Artefact", "Record", "Run", "append", "canonical", "records", "source_hash"]
