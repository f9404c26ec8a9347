"""Runs, their arms and the records that these leave."""

from effi.records.arms import Arm
from effi.records.artefacts import Artefact
from effi.records.identity import canonical
from effi.records.names import Name
from effi.records.run import Run
from effi.records.source import source_hash
from effi.records.store import Record, append, records

__all__ = ["Arm", "Artefact", "Name", "Record", "Run", "append", "canonical", "records", "source_hash"]
