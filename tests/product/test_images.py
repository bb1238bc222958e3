"""The images of agent and relay, built for real: what is in them, what they need, and that they come out the same."""

from __future__ import annotations

import json
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.fault.scale import FULL
from tests.product.images import ROOT, Member, product_image
from tests.product.unpacked import UnpackedImage, serving, unpack, volume

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.registry import Registry

MEMBERS: tuple[Member, ...] = ("agent", "relay")
SIZE_BYTES = {"agent": 125 * 2**20, "relay": 160 * 2**20}
"""Limits of whole images, unpacked, far below the 200 MiB that the agent may add to its base."""
UNCHECKED_HASH = 1
"""Flags of a compiled module that is never compared with its source."""


@pytest.fixture(scope="module", params=MEMBERS)
def member(request: pytest.FixtureRequest) -> Member:
    """Name the member whose image is looked at."""
    chosen: Member = request.param
    return chosen


@pytest.fixture(scope="module")
def image(member: Member, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> UnpackedImage:
    """Build a member's image, and unpack it."""
    return unpack(product_image(registry, member), tmp_path_factory.mktemp(member))


def test_nothing_can_be_run_in_it_but_the_product(member: Member, image: UnpackedImage) -> None:
    """Neither a shell nor a package manager: whoever gets in finds Python and the member's own command."""
    programs = {
        path.name
        for path in image.files
        if path.stat().st_mode & stat.S_IXUSR and ".so" not in path.name and path.suffix not in {".py", ".pyc"}
    }
    assert programs == {"python3.11", f"fairlead-{member}"}


def test_it_runs_as_any_user_on_a_root_that_nobody_can_write_to(image: UnpackedImage) -> None:
    """By number, without a name, a home or a network."""
    user, _, group = image.configuration["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    version = tomllib.loads((ROOT / "shared" / "pyproject.toml").read_text())["project"]["version"]
    assert version in image.run("--version")


def test_its_modules_are_compiled_for_good(image: UnpackedImage) -> None:
    """No start compiles anything, whatever times its files are given."""
    compiled = [path for path in image.files if path.suffix == ".pyc"]
    sources = [path for path in image.files if path.suffix == ".py"]
    assert len(compiled) == len(sources)
    assert {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled} == {UNCHECKED_HASH}


def test_its_command_says_what_it_is_for(member: Member, image: UnpackedImage) -> None:
    """Also where the image leaves docstrings out."""
    said = {"agent": "Run the agent until SIGTERM", "relay": "Run the relay."}[member]
    assert said in image.run("--help")


def test_it_says_what_it_is(member: Member, image: UnpackedImage) -> None:
    """Labels as the OCI names them, and what it was made on."""
    labels = {name.rpartition("image.")[2]: said for name, said in image.configuration["Labels"].items()}
    assert labels["title"] == f"fairlead-{member}"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["made-on"].startswith("sha256:")
    assert all(labels[name] for name in ("version", "revision", "created", "source", "description"))


def test_scanners_find_the_packages_of_its_base(image: UnpackedImage) -> None:
    """The Debian packages that its files are from, in the form that images without a package manager have."""
    described = {path.name: path.read_text() for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "libpython3.11-stdlib", "ca-certificates"} <= set(described)
    assert all("\nVersion: " in text for text in described.values())


def test_it_is_small(member: Member, image: UnpackedImage) -> None:
    """What a node unpacks stays within its budget."""
    print(f"fairlead-{member}: {image.size_bytes / 2**20:.0f} MiB unpacked")
    assert image.size_bytes <= SIZE_BYTES[member]


@pytest.mark.parametrize("built_twice", MEMBERS if FULL else MEMBERS[:1])
def test_the_same_sources_make_the_same_image(built_twice: Member, registry: Registry) -> None:
    """Built again without a single layer of before, it has the same digest; the relay's in a full run only."""
    assert product_image(registry, built_twice, afresh=True).digest == product_image(registry, built_twice).digest


def test_the_relay_serves_from_its_image(registry: Registry, tmp_path: Path) -> None:
    """Locked down as any user, with nothing to write to but its data; a signal ends it in order."""
    image = unpack(product_image(registry, "relay"), tmp_path / "image")
    data = volume(tmp_path / "data")
    with serving(image, {"/tmp": data}, {"FAIRLEAD_RELAY_DATA_DIR": "/tmp/data"}) as seconds:
        print(f"fairlead-relay: ready after {seconds:.1f} s")
        assert json.loads((data / "data" / "ready.json").read_text())["api_url"]
