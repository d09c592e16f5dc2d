"""Bodies that many answers have, and their compression for clients that accept it (RFC 9110, 12.5.3): a week of slots
is 66 KB, and 3 KB compressed."""

import asyncio
import hashlib
import zlib
from functools import partial
from typing import Final

from starlette.types import Scope

# A shorter body fits into a packet or two, compressed or not.
LEAST_BYTES: Final = 1024
# A longer body is compressed in a thread: one of 512 KB takes up to 12 ms.
_INLINE_BYTES: Final = 32 * 1024
# At level 6 most bodies are a tenth smaller, and take twice the time. 31 is the format of gzip.
_compress: Final = partial(zlib.compress, level=1, wbits=31)


class Body:
    """The body of one answer or of many, tagged and compressed once for all of them."""

    __slots__ = ("_compressed", "_tag", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._compressed: bytes | None = None
        self._tag: str | None = None

    def __len__(self) -> int:
        return len(self.plain)

    @property
    def tag(self) -> str:
        """The strong tag of the content."""
        if self._tag is None:
            self._tag = f'"{hashlib.sha256(self.plain).hexdigest()[:32]}"'
        return self._tag

    async def compressed(self) -> bytes:
        if self._compressed is None:
            work = len(self.plain) > _INLINE_BYTES
            self._compressed = await asyncio.to_thread(_compress, self.plain) if work else _compress(self.plain)
        return self._compressed


def accepts_gzip(scope: Scope) -> bool:
    """Returns whether a client accepts gzip: it is in `Accept-Encoding`, with a weight that is not 0."""
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            for accepted in value.lower().split(b","):
                coding, weighted, weight = b"".join(accepted.split()).partition(b";q=")
                if coding == b"gzip" and (not weighted or weight.strip(b"0.")):
                    return True
    return False
