"""Processes as a launcher starts them, for tests of what several do together."""

import os
import socket
import subprocess
import sys


def in_processes(count: int, *words: str) -> list[tuple[int, str]]:
    """Exit code and output of each of ``count`` processes of Python with these arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | launch | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        answers = [process.communicate(timeout=300)[0].strip() for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, answer) for process, answer in zip(started, answers, strict=True)]
