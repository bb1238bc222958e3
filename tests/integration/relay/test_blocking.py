"""The relay's event loop waits for no file, name or process while it serves: all of that is on threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fairlead_relay.app import Relay
from fairlead_relay.settings import Settings
from fairlead_shared.progress import Step
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import step

BLOCKING = {
    "open",
    "os.listdir",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "shutil.rmtree",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "sqlite3.connect",
    "subprocess.Popen",
    "tempfile.mkdtemp",
}
"""Events by which the interpreter announces what may wait for a disk, a name server or a process."""
ALLOWED = {"_keep_authority", "_extract_endpoint_context"}
"""
Functions that may: one looks at a folder of three files every two seconds, and handing that to a thread costs more than
it takes; the other is the framework's and reads the source of a module once, for the text of its own errors.
"""

_watched: list[tuple[int, list[str]]] = []


def _hook(event: str, _arguments: tuple[object, ...]) -> None:
    if event not in BLOCKING or not _watched or threading.get_ident() != _watched[0][0]:
        return
    frame: FrameType | None = sys._getframe(1)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    ours = [one for one in frames if "/fairlead_relay/" in one.f_code.co_filename]
    if ours and not ALLOWED & {one.f_code.co_name for one in frames}:
        # Nothing here may open a file itself, as the traceback module would.
        file = ours[0].f_code.co_filename.rpartition("/src/")[2]
        by = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames[0] is not ours[0] else "itself"
        _watched[0][1].append(f"{event} at {file}:{ours[0].f_lineno} in {ours[0].f_code.co_name}, by {by}")


sys.addaudithook(_hook)


@contextmanager
def watching() -> Iterator[list[str]]:
    """Note what blocks this thread, which runs the event loop."""
    found: list[str] = []
    _watched.append((threading.get_ident(), found))
    try:
        yield found
    finally:
        _watched.clear()


async def test_nothing_that_may_wait_is_done_on_the_event_loop(tmp_path: Path) -> None:
    """A tenant is made, a bundle sent and deployed by an agent, and everything that is there is read."""
    relay = Relay(Settings(data_dir=tmp_path / "data", api_listen="127.0.0.1:0", agent_listen="127.0.0.1:0"))
    await relay.start()
    process = RelayProcess(tmp_path / "data")  # for its clients: this relay runs here
    process.api_port, process.agent_port = (
        int(url.rpartition(":")[2]) for url in (relay.settings.api_url, relay.settings.agent_url)
    )
    with watching() as found:
        tenant = await asyncio.to_thread(make_tenant, process)
        bundle = config_maps()
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
        agent = await tenant.enrol()
        async with agent.connect() as connection:
            made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
            offer = await connection.wait_offer()
            await connection.accept(offer)
            await connection.report(offer.job_id, offer.token, *(step(name) for name in Step))
            await connection.finish(offer.job_id, offer.token)
            for path in (
                "", "/applications", "/clusters", "/agents", "/jobs", f"/deployments/{made['id']}",
                "/events?follow=false", f"/bundles/{bundle.sha256}",
            ):  # fmt: skip
                answer = await asyncio.to_thread(tenant.viewer.get, f"{tenant.path}{path}")
                assert answer.status_code == 200, path
        assert (await asyncio.to_thread(tenant.admin.get, "/v1/openapi.json")).status_code == 200
    for client in process.clients:
        client.close()
    await relay.stop()
    assert not found, "\n".join(sorted(set(found)))


def test_what_blocks_would_be_found(tmp_path: Path) -> None:
    """As if a module of the relay did it; what a test does itself is its own business."""
    code = compile("def read(path):\n    open(path).close()\n", "/src/fairlead_relay/pretended.py", "exec")
    names: dict[str, object] = {}
    exec(code, names)
    file = tmp_path / "file"
    with watching() as found:
        file.write_text("")
        names["read"](file)  # type: ignore[operator]  # exec() made it
    assert found == ["open at fairlead_relay/pretended.py:2 in read, by itself"]
