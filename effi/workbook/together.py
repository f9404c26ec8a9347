"""A notebook by several processes that torchrun starts: each has a kernel of its own, and the first one writes.

All execute the cells up to the one tagged `run`; from there on the first goes on alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from effi.workbook.notebook import cells, tagged

RESTARTS = 3
PART: dict[str, Any] = {
    "cell_type": "code",
    "source": "from effi.training import ranks\n\nranks.part()",
    "metadata": {"tags": ["injected-part"]},
    "outputs": [],
    "execution_count": None,
    "id": "part",
}


def launch(processes: int, module: str, argument: str) -> None:
    """Run a module in so many processes on this machine, all anew when one dies; SystemExit when that does not help."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # Else processes that were started anew may find the addresses of those before them.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    options = ["--standalone", f"--nproc-per-node={processes}", f"--max-restarts={RESTARTS}"]
    try:
        run.main([*options, "-m", module, argument])
    except ChildFailedError:
        raise SystemExit(
            f"one of {processes} processes ended early, also after {RESTARTS} new starts, perhaps for memory; run "
            "again: what is done is kept"
        ) from None


def is_one() -> bool:
    """Whether this is one of several processes of torchrun's."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def is_first() -> bool:
    """Whether this is the process that writes, as one that is alone does."""
    return not is_one() or os.environ["RANK"] == "0"


def own(notebook: str, output: str, folder: Path) -> dict[str, str]:
    """What this process executes and where that goes: the first one's output, of the others only a copy in `folder`."""
    path = Path(notebook)
    whole = json.loads(path.read_text(encoding="utf-8"))
    end = tagged(path, "run") + 1
    after = cells(path)[end:] if is_first() else []
    mine = folder / path.name
    mine.write_text(json.dumps({**whole, "cells": [*cells(path)[:end], PART, *after]}), encoding="utf-8")
    return {"notebook": str(mine), "output": output if is_first() else str(folder / f"executed-{path.name}")}


def own_gpu() -> dict[str, str]:
    """The environment that shows a kernel the one GPU of its process."""
    place = int(os.environ["LOCAL_RANK"])
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = seen.split(",") if seen else []
    return {"CUDA_VISIBLE_DEVICES": str(place) if seen is None else ",".join(listed[place : place + 1])}


def renamed(output: str, notebook: str) -> None:
    """Let an executed notebook say which it was, and no temporary folder."""
    path = Path(output)
    executed = json.loads(path.read_text(encoding="utf-8"))
    executed["metadata"]["papermill"]["input_path"] = notebook
    path.write_text(json.dumps(executed, indent=1) + "\n", encoding="utf-8")
