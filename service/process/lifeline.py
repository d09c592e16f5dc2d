"""A worker ends when the process that started it is gone: killed, it could not tell its workers, and they would keep
its port from the next start."""

import asyncio
import multiprocessing
import os
import signal


def stop_with_parent() -> None:
    """Sends this process a SIGTERM when its parent has ended. Does nothing in a process without such a parent."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent.sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent.sentinel, stop)
