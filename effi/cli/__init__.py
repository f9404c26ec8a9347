"""The command `effi`."""

from effi.cli.commands import app, main

__all__ = ["app", "main"]
