"""One thread for all, so that the same training gives the same bits."""

from __future__ import annotations

from tests.training.conftest import one_thread as one_thread
