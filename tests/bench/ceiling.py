"""The bare application, the ceiling of HTTP alone: it reads a request and answers as much as the service would.

It is served as the service is, by the same server with the same settings: `python -m tests.bench.ceiling PORT WORKERS`.
"""

import sys
from typing import Final

import uvicorn
from starlette.types import Receive, Scope, Send

from service.http.connections import Connections
from service.http.protocol import BoundedProtocol

# As long as a reservation.
_ANSWER: Final = b'{"status":"alive","padding":"' + b"x" * 350 + b'"}'
_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers 200 to every request."""
    if scope["type"] == "lifespan":
        await _start_and_stop(scope, receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


async def _start_and_stop(scope: Scope, receive: Receive, send: Send) -> None:
    """Gives the protocol the connections that it counts, and the end of streams, as the service does."""
    await receive()
    scope["state"] |= {"connections": Connections(of_address=None), "end_streams": lambda: None}
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(
        "tests.bench.ceiling:app",
        http=BoundedProtocol,
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
