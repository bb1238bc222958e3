"""
Batches of frames in the bodies of long-poll requests, and the names by which both sides know them.

Each frame is preceded by its length in bytes, 4 bytes, unsigned, big endian. An empty body is an empty batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from fairlead_shared.errors import ErrorCode, FrameInvalid
from fairlead_shared.frames import MAX_FRAME_BYTES

POLL_PATH = "/v1/agent/poll"
SESSION_HEADER = "Fairlead-Session"
"""Names the series of requests; the relay's answer to the first one gives it."""
SEND_HEADER = "Fairlead-Send"
"""Number of the batch in the request's body, counted from 1."""
RECEIVE_HEADER = "Fairlead-Receive"
"""Number of the batch that is asked for, counted from 1."""
MAX_BATCH_BYTES = MAX_FRAME_BYTES + 64 * 1024
"""One frame of the largest size always fits, beside small ones."""

_LENGTH = struct.Struct(">I")


def join_frames(frames: Iterable[bytes]) -> bytes:
    """Return the batch of some frames."""
    return b"".join(part for frame in frames for part in (_LENGTH.pack(len(frame)), frame))


def split_frames(batch: bytes) -> list[bytes]:
    """
    Return the frames of a batch.

    Raises: FrameInvalid: it is cut off, or a frame is larger than allowed.
    """
    frames = []
    at = 0
    while at < len(batch):
        if len(batch) - at < _LENGTH.size:
            raise FrameInvalid(ErrorCode.MALFORMED, "a batch is cut off")
        (size,) = _LENGTH.unpack_from(batch, at)
        at += _LENGTH.size
        if size > MAX_FRAME_BYTES or size > len(batch) - at:
            raise FrameInvalid(ErrorCode.MALFORMED, "a batch holds a frame that is cut off or too large")
        frames.append(batch[at : at + size])
        at += size
    return frames
