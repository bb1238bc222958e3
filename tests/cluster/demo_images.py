"""
Build the images and render the manifests of the demo's application, deploy/demo.

deploy/ holds files that anybody can use with their own tools; what this project's tests and demo do with them is here.
Must not: know how the application is deployed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.images import BuiltImage, build_image, debian_image

if TYPE_CHECKING:
    from tests.cluster.registry import Registry

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
_APP_VERSIONS = ("1", "2")


def demo_images(registry: Registry) -> dict[str, BuiltImage]:
    """
    Build and push every image of the demo's application, or find them built.

    Args:
        registry: Where to push them.
    Returns: Images by their name in the manifests, such as "harbour/app:2".
    Raises: CommandFailed: A build failed.
    """
    base = {"BASE": debian_image(registry).pinned}
    built = {}
    for folder in ("web", "redis", "postgresql"):
        built[f"harbour/{folder}:1"] = _build(registry, folder, f"harbour/{folder}:1", base)
    for version in _APP_VERSIONS:
        name = f"harbour/app:{version}"
        built[name] = _build(registry, "app", name, base | {"VERSION": version})
    return built


def demo_manifests(registry_address: str, *overlays: str) -> dict[str, str]:
    """
    Render the application's manifests.

    Args:
        registry_address: What stands for `${REGISTRY}`: host and port, or with a path.
        overlays: Folders whose files replace those of the same name, such as "v2".
    Returns: Text of each manifest by file name.
    """
    chosen: dict[str, Path] = {}
    for folder in ("manifests", *overlays):
        chosen |= {path.name: path for path in sorted((DEMO / folder).glob("*.yaml"))}
    return {name: path.read_text().replace("${REGISTRY}", registry_address) for name, path in chosen.items()}


def _build(registry: Registry, folder: str, name: str, arguments: dict[str, str]) -> BuiltImage:
    context = DEMO / "images" / folder
    return build_image(registry, context / "Containerfile", context, name, build_args=arguments, network=True)
