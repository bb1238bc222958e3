"""The bundle cache: checked on every read, bounded, and filled once however many jobs ask."""

import asyncio
from pathlib import Path

import pytest

from fairlead_agent import bundle_cache as module
from fairlead_agent.bundle_cache import BundleCache
from fairlead_agent.errors import BundleUnavailable
from fairlead_agent.exchange import Sink
from fairlead_shared.bundle import Bundle, make_bundle
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Message


class Source:
    """A courier that only fetches."""

    def __init__(self, *bundles: Bundle) -> None:
        self.contents = {str(bundle.sha256): bundle.content for bundle in bundles}
        self.asked: list[tuple[str, int]] = []
        self.break_at: int | None = None

    async def fetch(self, sha256: str, sink: Sink) -> None:
        """Write the content from where the sink stands."""
        self.asked.append((sha256, sink.size))
        await asyncio.sleep(0)
        content = self.contents[sha256]
        if self.break_at is not None:
            sink.write(content[sink.size : self.break_at])
            self.break_at = None
            raise asyncio.CancelledError
        sink.write(content[sink.size :])

    def send(self, message: Message) -> None:
        """Not used."""

    def start_stream(self, job_id: str, acknowledged_seq: int) -> None:
        """Not used."""

    def end_stream(self, job_id: str) -> None:
        """Not used."""

    def events_ready(self, job_id: str, *, at_once: bool = False) -> None:
        """Not used."""


def bundle(name: str, size: int = 10) -> Bundle:
    """Make a bundle of one ConfigMap."""
    metadata = {"name": name, "namespace": "shop"}
    return make_bundle([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "y" * size}}])


async def test_bundle_is_fetched_once(tmp_path: Path) -> None:
    """Two jobs at the same time, and a later process, find what the first fetched."""
    wanted = bundle("a")
    source = Source(wanted)
    cache = BundleCache(tmp_path / "bundles", source)
    first, second = await asyncio.gather(cache.load(wanted.sha256), cache.load(wanted.sha256))
    assert first == second == wanted
    assert await BundleCache(tmp_path / "bundles", source).load(wanted.sha256) == wanted
    assert source.asked == [(wanted.sha256, 0)]


async def test_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    """The disk is not trusted: a changed byte shows in the hash."""
    wanted = bundle("a")
    source = Source(wanted)
    cache = BundleCache(tmp_path, source)
    await cache.load(wanted.sha256)
    path = tmp_path / f"{wanted.sha256}.bundle"
    path.write_bytes(path.read_bytes().replace(b"y", b"z", 1))
    assert await cache.load(wanted.sha256) == wanted
    assert len(source.asked) == 2


async def test_broken_transfer_goes_on_where_it_was(tmp_path: Path) -> None:
    """A killed process leaves a part, and the next one asks for the rest."""
    wanted = bundle("a", 1000)
    source = Source(wanted)
    source.break_at = 300
    with pytest.raises(asyncio.CancelledError):
        await BundleCache(tmp_path, source).load(wanted.sha256)
    assert await BundleCache(tmp_path, source).load(wanted.sha256) == wanted
    assert source.asked[1] == (wanted.sha256, 300)


async def test_other_bytes_are_refused_and_not_kept(tmp_path: Path) -> None:
    """Content with another hash fails, and the next try starts from the first byte."""
    wanted, other = bundle("a"), bundle("b")
    source = Source(wanted)
    source.contents[wanted.sha256] = other.content
    cache = BundleCache(tmp_path, source)
    with pytest.raises(BundleUnavailable, match="SHA-256"):
        await cache.load(wanted.sha256)
    assert list(tmp_path.iterdir()) == []
    source.contents[wanted.sha256] = wanted.content
    assert await cache.load(wanted.sha256) == wanted


async def test_endless_content_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes than a bundle may have are never written."""
    monkeypatch.setattr(module, "MAX_BUNDLE_BYTES", 50)
    wanted = bundle("a", 1000)
    with pytest.raises(BundleUnavailable) as caught:
        await BundleCache(tmp_path, Source(wanted)).load(wanted.sha256)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert list(tmp_path.iterdir()) == []


async def test_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundles used longest ago make room; the one just loaded stays."""
    bundles = [bundle(name, 1000) for name in "abcd"]
    monkeypatch.setattr(module, "MAX_CACHE_BYTES", 2 * len(bundles[0].content) + 10)
    cache = BundleCache(tmp_path, Source(*bundles))
    for one in bundles:
        await cache.load(one.sha256)
    left = {path.stem for path in tmp_path.iterdir()}
    assert len(left) == 2
    assert bundles[-1].sha256 in left
