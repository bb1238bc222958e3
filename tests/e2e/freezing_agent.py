"""
The agent's command, which freezes itself at a chosen write: SIGSTOP in the worst of moments, found in no other way.

FREEZE_FILE names a file with `NUMBER WHEN`; while it is there, guarded writes to the API server are counted. WHEN:

    before   before the last look at the gate
    between  after that look and before the bytes leave: the one place where a write can come late. Having woken, it
             sends them and is busy for a moment, so that it does not hang up before the API server has read them
    after    after the API server's answer, before the agent has it

The file is removed at the moment of freezing. Everything else is the product, unchanged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from fairlead_agent.__main__ import main
from fairlead_agent.kube import transport
from fairlead_agent.kube.gate import WriteGate

ORDER = Path(os.environ["FREEZE_FILE"])
BUSY_SECONDS = 0.5
guarded_body, send = transport._GuardedBody, transport.Transport._send
written = 0


def freeze_if(when: str, number: int) -> bool:
    try:
        order = ORDER.read_text()
    except FileNotFoundError:
        return False
    if order.split() != [str(number), when]:
        return False
    ORDER.unlink()
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


class FreezingBody(guarded_body):  # type: ignore[valid-type,misc]
    async def write_with_length(self, writer: Any, content_length: int | None) -> None:  # noqa: ANN401
        global written  # noqa: PLW0603
        written = written + 1 if ORDER.exists() else 0
        freeze_if("before", written)
        if self._gate.seconds_left() <= 0:
            raise transport._GateShut
        if freeze_if("between", written):
            asyncio.get_running_loop().call_soon(time.sleep, BUSY_SECONDS)
        await aiohttp.BytesPayload.write_with_length(self, writer, content_length)


async def freezing_send(self: transport.Transport, *arguments: Any) -> tuple[int, bytes, float, tuple[str, ...]]:  # noqa: ANN401
    answer = await send(self, *arguments)
    gate: WriteGate | None = arguments[-1]
    if gate is not None:
        freeze_if("after", written)
    return answer


transport._GuardedBody = FreezingBody  # type: ignore[misc]
transport.Transport._send = freezing_send  # type: ignore[method-assign,assignment]
sys.argv[0] = "fairlead-agent"
main()
