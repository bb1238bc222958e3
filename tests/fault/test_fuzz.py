"""Fuzzing of the protocol's core: what was kept is run again, then new inputs are bred for the CPU time given."""

import os
import secrets

import pytest

from fairlead_shared.frames import KINDS
from tests.fault.frame_fuzzer import CORPUS, Fuzzer, Script, accepted, corpus, keep, run, seeds
from tests.fault.scale import scaled

CPU_SECONDS = float(os.environ.get("FAIRLEAD_FUZZ_SECONDS") or scaled(5, 60))
"""`FAIRLEAD_FUZZ_SECONDS=600 make fault` for ten CPU minutes."""


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.glob("*.script")))
def test_kept_input_raises_nothing(name: str) -> None:
    """Each reached a place that no other did, or broke something once."""
    run(Script.unpack((CORPUS / name).read_bytes()))


def test_seeds_are_valid_frames_of_every_kind() -> None:
    """Or the fuzzer would breed from noise."""
    valid = {content for script in seeds() for content in script.frames if accepted(content)}
    assert len(valid) >= len(KINDS) + 3


@pytest.mark.timeout(0)
def test_new_inputs_raise_nothing() -> None:
    """Whatever a peer sends, in whatever phase, is an event or a reason to close."""
    seed = secrets.randbits(64)
    fuzzer = Fuzzer(seed, corpus() + seeds())
    try:
        fuzzer.fuzz(CPU_SECONDS)
    except BaseException:
        print(f"seed {seed}: raised by {keep(fuzzer.last)}")
        raise
    print(
        f"seed {seed}: {fuzzer.runs:,} scripts in {CPU_SECONDS:.0f} CPU seconds; {len(fuzzer.found)} reached new steps"
    )
    assert fuzzer.runs > 0
