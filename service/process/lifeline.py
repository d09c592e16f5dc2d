"""Ends a worker after its supervisor. A supervisor that was killed can't stop its workers, and they would keep the port
from the next start."""

import asyncio
import multiprocessing
import os
import signal


def stop_with_parent() -> None:
    """Sends this process SIGTERM once its parent process has ended; call it in the event loop.

    Does nothing in a process that `multiprocessing` did not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)
