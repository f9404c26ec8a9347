"""One notebook in a process of its own: the job is one JSON argument, the answer one JSON line on standard output.

Asked for several `processes` it has torchrun start them, each of which is this module again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from traitlets.config import Config

from effi import errors
from effi.errors import EffiError
from effi.workbook import scratch, together
from effi.workbook.answers import Stop
from effi.workbook.mends import mend

POLL_S = 0.5
GRACE_S = 3
# A kernel tells the class of an error by its name only.
MISTAKES = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, EffiError)}


def execute(notebook: str, output: str, cwd: str, parameters: dict[str, object]) -> Stop:
    """Run every cell, and write `output` whether that succeeds or not."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        with scratch.folder() as runtime:
            # What the kernel, its workers and jupyter_client leave in a temporary folder goes with this one.
            os.environ["TMPDIR"] = tempfile.tempdir = str(runtime)
            papermill.execute_notebook(
                notebook,
                output,
                parameters,
                kernel_name="python3",
                language="python",
                cwd=cwd,
                progress_bar=False,
                config=_kernel_config(runtime),
            )
    except PapermillExecutionError as error:
        said = error.evalue.partition("\n")[0]
        if error.ename in MISTAKES:
            return Stop(said, mistake=True)
        return Stop(f"Cell [{error.exec_count}] stopped with {error.ename}: {said}{mend(f'{error.ename} {said}')}")
    except DeadKernelError:
        begun, _ = _code_cells(output)
        return Stop(f"The kernel was killed in code cell {begun}, perhaps for memory; run again: what is done is kept.")
    except OSError as error:
        refused = error.filename or output
        return Stop(f"{refused} could not be written or read ({error.strerror}){mend(error.strerror or '')}")
    begun, cells = _code_cells(output)
    # A cell that calls sys.exit() ends the notebook, and papermill counts that as success.
    return Stop(f"Code cell {begun} of {cells} ended the notebook; take its exit out." if begun < cells else None)


def execute_together(notebook: str, output: str, cwd: str, parameters: dict[str, object]) -> Stop:
    """This process's part of what several execute: all of the notebook, or its trainings alone."""
    os.environ |= together.own_gpu()
    with scratch.folder() as place:
        mine = together.own(notebook, output, place)
        stop = execute(**mine, cwd=cwd, parameters=parameters)
        if together.is_first() and Path(output).exists():
            together.renamed(output, notebook)
        return stop


def _code_cells(output: str) -> tuple[int, int]:
    """Code cells begun, and in all; papermill notes a start time, and marks cells that never ran as completed."""
    cells = json.loads(Path(output).read_text(encoding="utf-8"))["cells"]
    begun = [cell["metadata"]["papermill"]["start_time"] is not None for cell in cells if cell["cell_type"] == "code"]
    return sum(begun), len(begun)


def _kernel_config(runtime: Path) -> Config:
    """Sockets in a folder of their own, where the system has them: notebooks side by side race for free ports.

    Without `ip` the sockets would lie in the notebook's folder, under names that all kernels share.
    """
    sockets = {"transport": "ipc", "ip": str(runtime / "kernel")}
    return Config({"KernelManager": sockets}) if os.name == "posix" else Config()


def _end_with(parent: int) -> None:
    """Stop when the process that asked for the notebook is gone; the kernel looks for this process in the same way."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(1)


def main() -> None:
    """Answers {"error": sentence or null, "mistake": whether the user can mend it}.

    Of several processes the first answers; one that stops for no mistake ends so that torchrun starts all anew.
    """
    order = json.loads(sys.argv[1])
    # Ignored where a shell began this in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = order.pop("parent", None)
    threading.Thread(target=_end_with, args=(asked or os.getppid(),), daemon=True).start()
    processes = order.pop("processes", 1)
    if processes > 1:
        together.launch(processes, "effi.workbook.child", json.dumps(order))
        return
    stop = execute_together(**order) if together.is_one() else execute(**order)
    if asked or together.is_first():
        print(json.dumps(stop._asdict()), flush=True)
    if together.is_one() and stop.error and not stop.mistake:
        sys.exit(1)


if __name__ == "__main__":
    main()
