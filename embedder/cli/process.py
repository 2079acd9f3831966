"""One process of a service with several: started by embedder-serve, told what it is over a pipe; not for people."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection

from embedder.cli.logs import configure_logs
from embedder.errors import ConfigurationError
from embedder.server.processes.control import ControlPipe, Start

# A thread that answers a hit waits this long at most for one that computes in Python; the interpreter's own 5 ms are its p99.
SWITCH_INTERVAL_S = 0.0005


def main() -> None:
    """Do the work of a role until the supervisor says stop, or is gone."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    control = ControlPipe(Connection(int(sys.argv[2])))
    start = control.receive_start()
    settings = start.settings
    configure_logs(log_format=settings.log_format, level=settings.log_level, process=sys.argv[1])
    try:
        _run(start, control)
    except ConfigurationError as error:
        control.fail(str(error))


def _run(start: Start, control: ControlPipe) -> None:
    """Import what the role needs and nothing else."""
    if start.role == "keeper":
        from embedder.server.processes.keeper_process import run_keeper

        run_keeper(start, control)
    elif start.role == "engine":
        from embedder.server.processes.engine_process import run_engine

        run_engine(start, control)
    else:
        from embedder.server.processes.frontend_process import run_frontend

        run_frontend(start, control)


if __name__ == "__main__":
    main()
