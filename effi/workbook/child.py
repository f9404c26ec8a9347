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
        return (
            f"The kernel was killed in {_unfinished(output)}, perhaps for want of memory; "
            "run again: finished arms are kept."
        )
    # A cell that calls sys.exit() ends the notebook, and papermill counts that as success.
    cell = _unfinished(output)
    return cell and f"The notebook ended itself before {cell}; take the exit out."


def _unfinished(output: str) -> str | None:
    """The first code cell without an execution count: papermill marks cells that never ran as completed."""
    cells = json.loads(Path(output).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    position = next((i for i, cell in enumerate(code, 1) if cell["execution_count"] is None), None)
    return position and f"code cell {position} of {len(code)}"


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
