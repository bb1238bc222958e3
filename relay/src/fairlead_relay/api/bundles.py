"""
Routes of bundles: uploaded by hash, large ones streamed to disk, checked off the loop, stored once.

They belong to the organization, not to an application: whoever knows the hash of one knows what is in it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from fairlead_relay.api.access import needs
from fairlead_relay.api.auditing import TrailOf
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.api.services import Services, ServicesOf
from fairlead_relay.errors import NotFound, StoreUnavailable
from fairlead_relay.store.bundles import Bundle, add_bundle, find_bundle
from fairlead_relay.store.tokens import Role
from fairlead_shared.bundle import MAX_BUNDLE_BYTES, BundleHash

router = APIRouter(prefix="/v1/organizations/{organization}/bundles", tags=["bundles"])

MEDIA_TYPE = "application/vnd.fairlead.bundle.v1+jsonl"
HashPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
BYTES: Final[dict[str, Any]] = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
"""Of a bundle, as the document describes them."""
HAD_IT: Final[dict[int | str, dict[str, Any]]] = {200: {"description": "The organization had it."}}
_WRITE_BYTES = 256 * 1024
"""Uploaded bytes are written in pieces of this size: few trips to a thread, little memory. Fewer are not written."""


@router.put(
    "/{sha256}",
    status_code=201,
    response_class=Response,
    max_body_size=MAX_BUNDLE_BYTES,
    responses=HAD_IT,
    openapi_extra={"requestBody": {"required": True, **BYTES}},
)
@needs(Role.DEPLOYER, narrows=True, audit="bundle.upload")
async def put(
    organization: OrganizationPath, sha256: HashPath, request: Request, services: ServicesOf, trail: TrailOf
) -> Response:
    """Store a bundle: 201 when it is new, 200 when the organization had it. One with a plaintext Secret is refused."""
    known = await services.store.read(lambda connection: find_bundle(connection, organization, sha256))
    if known is not None:
        return Response(status_code=HTTPStatus.OK)
    try:
        content = await _receive_whole(request, services.settings.data_dir, sha256)
    except OSError as error:
        raise StoreUnavailable(f"an upload cannot be written: {error.strerror}") from error
    facts = await services.library.check(content, BundleHash(sha256))
    await run_in_threadpool(services.blobs.put, sha256, [content])
    bundle = Bundle(organization, sha256, facts.size_bytes, services.clock())

    def write(connection: Connection) -> bool:
        is_new = add_bundle(connection, bundle)
        if is_new:
            trail.note(connection, after={"bytes": bundle.size_bytes})
        return is_new

    is_new = await services.store.write(write)
    return Response(status_code=HTTPStatus.CREATED if is_new else HTTPStatus.OK)


@router.get("/{sha256}", response_class=StreamingResponse, responses={200: BYTES})
@needs(Role.VIEWER, narrows=True)
async def get(organization: OrganizationPath, sha256: HashPath, services: ServicesOf) -> StreamingResponse:
    """Return a bundle's bytes."""
    await _require(services, organization, sha256)
    return StreamingResponse(services.blobs.read(sha256), media_type=MEDIA_TYPE)


@router.head("/{sha256}", response_class=Response)
@needs(Role.VIEWER, narrows=True)
async def head(organization: OrganizationPath, sha256: HashPath, services: ServicesOf) -> Response:
    """Tell whether the organization has a bundle, so that it need not be sent."""
    bundle = await _require(services, organization, sha256)
    return Response(media_type=MEDIA_TYPE, headers={"Content-Length": str(bundle.size_bytes)})


async def _require(services: Services, organization: str, sha256: str) -> Bundle:
    bundle = await services.store.read(lambda connection: find_bundle(connection, organization, sha256))
    if bundle is None:
        raise NotFound("bundle", sha256)
    return bundle


async def _receive_whole(request: Request, data_dir: FilePath, sha256: str) -> bytes:
    """
    Return a body, of which the route's limit has bounded the size.

    A large one is received on the disk; each step may wait for it, so that none is on the event loop.
    """
    if int(request.headers.get("content-length") or 1) == 0:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, "send the bundle's bytes as the body")
    pieces = _pieces(request)
    first = await anext(pieces, b"")
    if len(first) < _WRITE_BYTES:
        return first  # nothing follows
    folder = await run_in_threadpool(tempfile.mkdtemp, dir=data_dir, prefix=".upload-")
    try:
        file = FilePath(folder) / sha256
        target = await run_in_threadpool(file.open, "wb")
        try:
            await run_in_threadpool(target.write, first)
            async for piece in pieces:
                await run_in_threadpool(target.write, piece)
        finally:
            await run_in_threadpool(target.close)
        return await run_in_threadpool(file.read_bytes)
    finally:
        await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield a body in pieces of at least `_WRITE_BYTES`, but for the last one."""
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= _WRITE_BYTES:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)
