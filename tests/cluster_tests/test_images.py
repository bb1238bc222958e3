"""Images really reach pods: built, pushed to the local registry, pulled by the kubelet, or refused with its words."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.images import build_image, debian_image, probe_image_tar, python_image
from tests.cluster.registry import Registry, empty_if_large, session_registry
from tests.cluster.scratch_image import ScratchImage
from tests.polling import wait_until

PULL_SECONDS = 90.0


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Serve the machine's images for this module's tests."""
    with session_registry() as serving:
        yield serving


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a test a namespace of its own, gone afterwards."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_image_from_scratch_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Two writings of one image yield one digest, so nodes and registries never see it twice."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF of a kind")
    image = ScratchImage(reference="fairlead.test/thing:1", files={"/program": program}, entrypoint=("/program",))
    digests = {image.write(tmp_path / "first.tar"), image.write(tmp_path / "second.tar")}
    assert len(digests) == 1
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_cache_directory_in_use_is_not_emptied(registry: Registry, tmp_path: Path) -> None:
    """A directory over its limit is emptied, unless somebody holds its lock."""
    directory = tmp_path / "layers"
    directory.mkdir()
    (directory / "layer").write_bytes(b"x" * 2048)
    empty_if_large(directory, 4096)
    assert (directory / "layer").exists()
    with (tmp_path / "layers.lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_SH)
        empty_if_large(directory, 1024)
        assert (directory / "layer").exists()
    empty_if_large(directory, 1024)
    assert list(directory.iterdir()) == []


def test_unchanged_sources_are_not_built_again(registry: Registry, tmp_path: Path) -> None:
    """A build is found by its sources; another build argument makes another image, also where only ENV has it."""
    (tmp_path / "Containerfile").write_text(
        "ARG BASE\nFROM ${BASE}\nARG COLOUR\nENV COLOUR=${COLOUR}\nCOPY note /note\n"
    )
    (tmp_path / "note").write_text("one")
    base = {"BASE": debian_image(registry).pinned}
    blue, again, green = (
        build_image(
            registry, tmp_path / "Containerfile", tmp_path, "tests/note:1", build_args=base | {"COLOUR": colour}
        )
        for colour in ("blue", "blue", "green")
    )
    assert blue == again
    assert green.digest != blue.digest
    assert registry.digest("tests/note", "1") == green.digest
    (tmp_path / "note").write_text("two")
    changed = build_image(
        registry, tmp_path / "Containerfile", tmp_path, "tests/note:1", build_args=base | {"COLOUR": "green"}
    )
    assert changed.digest != green.digest


def test_build_without_network_reaches_nothing(registry: Registry, tmp_path: Path) -> None:
    """A RUN of an ordinary build cannot dial anywhere, not even this machine's registry."""
    script = f"import socket; socket.create_connection(('{registry.address.partition(':')[0]}', {registry.port}), 2)"
    (tmp_path / "Containerfile").write_text(
        f'ARG BASE\nFROM ${{BASE}}\nRUN python3 -c "{script}" 2>&1 | grep --quiet unreachable\n'
    )
    base = {"BASE": python_image(registry).pinned}
    assert build_image(registry, tmp_path / "Containerfile", tmp_path, "tests/offline:1", build_args=base).digest


def test_kubelet_pulls_from_the_registry(registry: Registry, cluster: Cluster, namespace: str) -> None:
    """A pod runs an image that only the registry has."""
    registry.admit(cluster)
    reference = registry.push(probe_image_tar(), "tests/probe", "pulled")
    cluster.kubectl(
        "--namespace", namespace, "run", "probe", f"--image={reference}", "--image-pull-policy=Always", "--", "serve"
    )
    cluster.kubectl(
        "--namespace", namespace, "wait", "--for=condition=Ready", f"--timeout={PULL_SECONDS:.0f}s", "pod/probe"
    )
    answer = cluster.kubectl("--namespace", namespace, "exec", "probe", "--", "/probe", "get", "http://127.0.0.1:8080/")
    assert answer.stdout == "ok from probe\n"


def test_wrong_tag_is_refused_with_the_registrys_words(registry: Registry, cluster: Cluster, namespace: str) -> None:
    """The kubelet waits with ErrImagePull and says which image was not found, as a person will see it."""
    registry.admit(cluster)
    registry.push(probe_image_tar(), "tests/probe", "pulled")
    wrong = f"{registry.address}/tests/probe:mistyped"
    cluster.kubectl("--namespace", namespace, "run", "wrong", f"--image={wrong}", "--image-pull-policy=Always")

    def refusal() -> str | None:
        pod = json.loads(cluster.kubectl("--namespace", namespace, "get", "pod", "wrong", "--output=json").stdout)
        for status in pod["status"].get("containerStatuses", []):
            waiting = status["state"].get("waiting", {})
            if waiting.get("reason") == "ErrImagePull":
                return str(waiting["message"])
        return None

    message = wait_until(refusal, "ErrImagePull", PULL_SECONDS)
    assert wrong in str(message)
    assert "not found" in str(message)
