"""The demo's application names the images that are built for it, and its overlays replace files that exist."""

import pytest
import yaml

from tests.cluster.demo_images import DEMO, demo_images, demo_manifests
from tests.cluster.registry import Registry


def _missing(registry: Registry, *overlays: str) -> set[str]:
    """Return the images that a rendering names and the registry does not have, without its address."""
    missing = set()
    for text in demo_manifests(registry.address, *overlays).values():
        for document in yaml.safe_load_all(text):
            pod = document.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", []):
                name = container["image"].removeprefix(registry.address + "/")
                if registry.digest(*name.split(":")) is None:
                    missing.add(name)
    return missing


def test_manifests_name_images_that_are_built(registry: Registry) -> None:
    """Both versions find all their images."""
    demo_images(registry)
    assert _missing(registry) == set()
    assert _missing(registry, "v2") == set()


def test_broken_overlay_names_one_image_nobody_built(registry: Registry) -> None:
    """The mistake the demo shows is one wrong tag and nothing else."""
    demo_images(registry)
    assert _missing(registry, "broken") == {"harbour/app:2.0-rc1"}


@pytest.mark.parametrize("overlay", ["v2", "broken"])
def test_overlay_replaces_files_that_exist(overlay: str) -> None:
    """An overlay adds no object under another file's name: every file of it stands for one of the first version."""
    replaced = {path.name for path in (DEMO / overlay).glob("*.yaml")}
    assert replaced
    assert replaced <= {path.name for path in (DEMO / "manifests").glob("*.yaml")}
