"""What the parameters of the notebook may be; no arm reads this, so that editing it makes no record stale."""

from __future__ import annotations

from collections.abc import Mapping

from effi import spec
from effi.instant_soup.denoise import Denoiser
from effi.instant_soup.rounds import Rounds
from effi.models.clip import ClipSize
from effi.training import Training

SIZE = {"width": 64, "depth": 1, "heads": 1, "hidden": 1, "patch": 1, "embedding": 1}

PARAMETERS: Mapping[str, spec.Rule] = {
    "dataset": spec.holding("images", "texts"),
    "sparsities": spec.several(spec.between(0, 1)),
    "only": spec.several(spec.text),
    "rounds": spec.options_of(Rounds, base={"target": 0.5}, elsewhere={"target": "sparsities"}),
    "denoiser": spec.options_of(Denoiser, base={}),
    "clip": spec.options_of(ClipSize, base=SIZE),
    "training": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
    "fine_tuning": spec.in_epochs(spec.options_of(Training, base={"epochs": 1})),
}
