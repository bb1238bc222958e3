"""The API's listener: requests under way are finished when it stops."""

import asyncio
import socket

import httpx
from starlette.types import Receive, Scope, Send

from fairlead_relay.api.server import ApiServer


async def test_a_request_under_way_is_answered_before_the_server_is_gone() -> None:
    """Stop is complete on return, may be called twice, and leaves nobody without an answer."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        arrived.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = ApiServer(app, None)
    await server.start(listener)
    async with httpx.AsyncClient() as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await arrived.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        go_on.set()
        assert (await request).text == "done"
        await stopping
        await server.stop()
    listener.close()
