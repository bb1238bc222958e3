"""
Opening a channel to the relay over one transport, straight or through TLS inspection.

Where the operator says that the network inspects TLS, what answers the outer handshake is checked by the network
owner's CA and shown no certificate; the relay itself is met inside. Where not, whoever answers must be the relay.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from fairlead_agent.channel import Channel
from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.hop_failures import os_reason
from fairlead_agent.inner_channel import open_inner
from fairlead_agent.long_poll import open_long_poll
from fairlead_agent.transport_choice import Transport
from fairlead_shared.inner_tls import PATH_SUFFIX


async def open_channel(dialler: Dialler, transport: Transport, context: ssl.SSLContext) -> Channel:
    """
    Open a channel.

    Args:
        dialler: Knows the way to the relay, and whether TLS is inspected on it.
        transport: How frames shall travel.
        context: Which relay to trust and which certificate to present to it.
    Raises: ConnectFailed: names the hop.
    """
    opens = open_long_poll if transport is Transport.LONG_POLL else Dialler.dial
    if not dialler.tls_inspection:
        return await opens(dialler, context)
    try:
        outer = await opens(dialler, _outer_context(dialler, context), PATH_SUFFIX)
    except ConnectFailed as error:
        if error.hop == "TLS" and not error.cut_upgrade:
            error.reason += "; is the CA of what inspects TLS here in the extra CA bundle?"
        raise
    channel = await open_inner(outer, context, dialler.host, dialler.address)
    dialler.passed("TLS", "inside: certificates of relay and agent accepted")
    return channel


def _outer_context(dialler: Dialler, inner: ssl.SSLContext) -> ssl.SSLContext:
    """Return a context that trusts the operator's roots and, for networks that inspect only sometimes, the relay's."""
    # What inspects is not ours, and may know nothing newer than TLS 1.2: nothing depends on it.
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if inner.verify_mode is ssl.CERT_NONE:
        outer.check_hostname = False
        outer.verify_mode = ssl.CERT_NONE
        return outer
    for root in inner.get_ca_certs(binary_form=True):
        outer.load_verify_locations(cadata=root)
    _load_bundle(outer, dialler.ca_bundle_file, dialler.address)
    return outer


def _load_bundle(context: ssl.SSLContext, bundle: Path | None, address: str) -> None:
    try:
        if bundle is not None:
            context.load_verify_locations(bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConnectFailed("TLS", address, f"{bundle}: {os_reason(error)}") from error
