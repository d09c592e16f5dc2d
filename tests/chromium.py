"""A real browser, driven over the pipes of its debugging protocol: windows that open pages and run scripts in them."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = shutil.which("chromium")
_OPTIONS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
# An upper limit: no page of the tests takes nearly as long.
_SECONDS: Final = 30


class Chromium:
    """A running browser."""

    def __init__(self, answers: asyncio.StreamReader, commands: int) -> None:
        self._reader = answers
        self._commands = commands
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def read(self) -> None:
        """Hands each answer to its caller, until the browser ends. Events are ignored."""
        while message := await self._reader.readuntil(b"\0"):
            answer = json.loads(message[:-1])
            if waiting := self._answers.pop(answer.get("id"), None):
                waiting.set_result(answer)

    async def send(self, method: str, session_id: str | None = None, **parameters: Any) -> Any:
        """Sends a command and returns its result."""
        number = next(self._numbers)
        session = {"sessionId": session_id} if session_id else {}
        self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters} | session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        answer = await asyncio.wait_for(self._answers[number], _SECONDS)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    async def open(self, url: str) -> "Window":
        """Opens a page in a window of a new profile, which shares nothing with the others."""
        profile = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=profile))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        window = Window(self, session, target)
        await self.send("Page.navigate", session, url=url)
        return window


class Window:
    """One page."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target

    async def run(self, script: str) -> Any:
        """Returns the value of an expression, awaited; None if it cannot be computed yet."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = await self._browser.send("Runtime.evaluate", self._session, expression=script, **options)
        return None if "exceptionDetails" in answer else answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Returns the value of an expression as soon as it is truthy."""
        async with asyncio.timeout(_SECONDS):
            while not (value := await self.run(script)):  # noqa: ASYNC110 — the page is another process
                await asyncio.sleep(0.02)
        return value

    async def reload(self) -> None:
        """Loads the page again."""
        await self._browser.send("Page.reload", self._session)

    async def close(self) -> None:
        """Closes the window, as its user does."""
        await self._browser.send("Page.close", self._session)


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Chromium]:
    """Runs a browser, with its profile in a folder, until the end of the block."""
    assert CHROMIUM
    commands, our_commands = os.pipe()
    our_answers, answers = os.pipe()
    # The browser reads its commands from 3 and writes its answers to 4.
    start = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", start, CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}/chromium"),
            pass_fds=(commands, answers),
            stdout=log,
            stderr=log,
        )
    os.close(commands)
    os.close(answers)
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_answers, "rb")
    )
    browser = Chromium(reader, our_commands)
    reading = asyncio.create_task(browser.read())
    try:
        yield browser
        await browser.send("Browser.close")
    finally:
        reading.cancel()
        os.close(our_commands)
        try:
            await asyncio.wait_for(process.wait(), _SECONDS)
        except TimeoutError:
            process.kill()
