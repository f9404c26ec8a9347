"""One notebook in a process of its own: the job is one JSON argument, the answer one JSON line on standard output."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from traitlets.config import Config


def execute(notebook: str, output: str, cwd: str, parameters: dict[str, object]) -> str | None:
    """Sentence that says what stopped the notebook, None if every cell ran; `output` is written in either case."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        with tempfile.TemporaryDirectory(prefix="effi-") as runtime:
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
        return f"Cell [{error.exec_count}] stopped with {error.ename}: {said}"
    except DeadKernelError:
        begun, _ = _code_cells(output)
        return f"The kernel was killed in code cell {begun}, perhaps for memory; run again: finished arms are kept."
    begun, cells = _code_cells(output)
    # A cell that calls sys.exit() ends the notebook, and papermill counts that as success.
    return f"Code cell {begun} of {cells} ended the notebook; take its exit out." if begun < cells else None


def _code_cells(output: str) -> tuple[int, int]:
    """Code cells begun, and in all; papermill notes a start time, and marks cells that never ran as completed."""
    cells = json.loads(Path(output).read_text(encoding="utf-8"))["cells"]
    begun = [cell["metadata"]["papermill"]["start_time"] is not None for cell in cells if cell["cell_type"] == "code"]
    return sum(begun), len(begun)


def _kernel_config(runtime: str) -> Config:
    """Sockets in a folder of their own, where the system has them: notebooks side by side race for free ports.

    Without `ip` the sockets would lie in the notebook's folder, under names that all kernels share.
    """
    sockets = {"transport": "ipc", "ip": str(Path(runtime, "kernel"))}
    return Config({"KernelManager": sockets}) if os.name == "posix" else Config()


def main() -> None:
    """Answers {"error": sentence or null}."""
    print(json.dumps({"error": execute(**json.loads(sys.argv[1]))}))


if __name__ == "__main__":
    main()
