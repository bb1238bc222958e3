"""Frames in the bodies of long-poll requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_shared.errors import FrameInvalid
from fairlead_shared.frames import MAX_FRAME_BYTES
from fairlead_shared.poll_batches import join_frames, split_frames


@given(st.lists(st.binary(max_size=40)))
def test_what_is_joined_is_split_again(frames: list[bytes]) -> None:
    """Empty frames and empty batches too."""
    assert split_frames(join_frames(frames)) == frames


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1), st.integers(min_value=1, max_value=39))
def test_a_batch_that_is_cut_off_is_refused(frames: list[bytes], cut: int) -> None:
    """Wherever it was cut: never a shorter batch, unless the cut is between two frames."""
    batch = join_frames(frames)
    left = batch[: max(0, len(batch) - cut)]
    whole = [join_frames(frames[:count]) for count in range(len(frames))]
    if left in whole:
        assert join_frames(split_frames(left)) == left
    else:
        with pytest.raises(FrameInvalid):
            split_frames(left)


def test_a_frame_larger_than_allowed_is_refused_by_its_length() -> None:
    """Before its bytes are looked at."""
    with pytest.raises(FrameInvalid, match="too large"):
        split_frames((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x")
