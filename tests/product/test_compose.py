"""The compose file of a laptop, as Docker Compose's own library reads it, and its relay run with what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.binaries import binary
from tests.cluster.commands import run
from tests.cluster.errors import CommandFailed
from tests.product.images import ROOT, product_image
from tests.product.unpacked import UnpackedImage, serving, unpack, volume

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.registry import Registry

COMPOSE = ROOT / "deploy" / "compose"
ADDRESS = "192.0.2.7"


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build the library's program first, in a fixture, which may take as long as it takes."""
    binary("compose-spec")


def read(*files: str | Path, **variables: str) -> dict[str, Any]:
    """Return the project that compose files make, everything in it resolved."""
    argv = ["env", "-i", f"HOME={COMPOSE}", *(f"{name}={text}" for name, text in variables.items())]
    project: dict[str, Any] = json.loads(run([*argv, str(binary("compose-spec")), *map(str, files)]))
    return project


@pytest.fixture(scope="module")
def relay_image(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> UnpackedImage:
    """Build the relay's image, and unpack it."""
    return unpack(product_image(registry, "relay"), tmp_path_factory.mktemp("relay"))


def test_a_typo_is_refused(tmp_path: Path) -> None:
    """What reads the files here knows what it reads: an unknown word is an error."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((COMPOSE / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    with pytest.raises(CommandFailed, match="readonly"):
        read(wrong)


def test_its_relay_serves_as_it_says(relay_image: UnpackedImage, tmp_path: Path) -> None:
    """With its variables and volumes, and nothing else to write to: the names that it says are in the certificate."""
    service = read(COMPOSE / "compose.yaml", FAIRLEAD_ADDRESS=ADDRESS)["services"]["relay"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    places = [mount["target"] for mount in service["volumes"]] + list(service["tmpfs"])
    user = int(relay_image.configuration["User"].partition(":")[0])
    volumes = {place: volume(tmp_path / place.replace("/", "-"), user) for place in places}
    with serving(relay_image, volumes, service["environment"], user=user):
        (state,) = [folder for place, folder in volumes.items() if place.endswith("relay")]
        ready = json.loads((state / "data" / "ready.json").read_text())
    assert ready["agent_url"] == f"wss://{ADDRESS}:7444"
    published = {port["target"]: port.get("host_ip", "") for port in service["ports"]}
    assert published == {7443: "127.0.0.1", 7444: ""}


def test_a_new_volume_is_the_relays(relay_image: UnpackedImage) -> None:
    """A container engine gives a named volume the owner of the folder that it covers."""
    for mount in read(COMPOSE / "compose.yaml")["services"]["relay"]["volumes"]:
        covered = (relay_image.root / mount["target"].lstrip("/")).stat()
        assert f"{covered.st_uid}" == relay_image.configuration["User"].partition(":")[0]


def test_a_database_is_added_by_a_second_file() -> None:
    """The relay waits for it and has its URL; without a password nothing begins."""
    files = (COMPOSE / "compose.yaml", COMPOSE / "postgresql.yaml")
    relay = read(*files, POSTGRES_PASSWORD="x")["services"]["relay"]
    assert relay["environment"]["FAIRLEAD_RELAY_DATABASE_URL"] == "postgresql://fairlead:x@postgresql/fairlead"
    assert relay["depends_on"]["postgresql"]["condition"] == "service_healthy"
    with pytest.raises(CommandFailed, match="choose one"):
        read(*files)
