"""Images really reach pods: built, pushed to the local registry, pulled by the kubelet, or refused with its words."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.images import PROBE_IMAGE, build_image, debian_image, load_image, probe_image_tar
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.cluster.registry import Registry, empty_if_large
from tests.cluster.scratch_image import ScratchImage
from tests.polling import PATIENCE_SECONDS, wait_until

PULL_SECONDS = PATIENCE_SECONDS
BUILD_SECONDS = 120.0


@pytest.fixture(scope="module")
def pulled(registry: Registry, cluster: Cluster) -> str:
    """Push an image for the node to pull, and return its reference."""
    registry.admit(cluster)
    return registry.push(probe_image_tar(), "tests/pulled", "1")


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
        fcntl.flock(lock, fcntl.LOCK_SH)
        empty_if_large(directory, 1024)
        assert (directory / "layer").exists()
    empty_if_large(directory, 1024)
    assert list(directory.iterdir()) == []


def test_unchanged_sources_are_not_built_again(registry: Registry, tmp_path: Path) -> None:
    """A build is found by its sources; another build argument makes another image, also where only ENV has it."""
    containerfile, note = tmp_path / "Containerfile", tmp_path / "note"
    containerfile.write_text("FROM scratch\nARG COLOUR\nENV COLOUR=${COLOUR}\nCOPY note /note\n")
    # Sources no earlier run had, or everything would be found and nothing built.
    note.write_text(f"one {time.time_ns()}")

    def build(colour: str) -> str:
        return build_image(registry, containerfile, tmp_path, "tests/note:1", build_args={"COLOUR": colour}).digest

    blue = build("blue")
    assert build("blue") == blue
    green = build("green")
    assert green != blue
    assert registry.digest("tests/note", "1") == green
    note.write_text(f"two {time.time_ns()}")
    assert build("green") != green


def test_build_without_network_reaches_nothing(registry: Registry, tmp_path: Path) -> None:
    """A RUN of an ordinary build cannot dial anywhere, not even this machine's registry; one that may, can."""
    dial = f"exec 3<>/dev/tcp/{OUTSIDE_ADDRESS}/{registry.port}"
    base = {"BASE": debian_image(registry).pinned}
    for network, expected in ((False, f"! {dial}"), (True, dial)):
        (tmp_path / "Containerfile").write_text(f"ARG BASE\nFROM ${{BASE}}\nRUN bash -c '{expected}'\n")
        build_image(registry, tmp_path / "Containerfile", tmp_path, "tests/network:1", build_args=base, network=network)


def test_kubelet_pulls_from_the_registry(pulled: str, cluster: Cluster, namespace: str) -> None:
    """A pod runs an image that only the registry has."""
    cluster.kubectl(
        "--namespace", namespace, "run", "probe", f"--image={pulled}", "--image-pull-policy=Always", "--", "serve"
    )
    cluster.kubectl(
        "--namespace", namespace, "wait", "--for=condition=Ready", f"--timeout={PULL_SECONDS:.0f}s", "pod/probe"
    )
    answer = cluster.kubectl("--namespace", namespace, "exec", "probe", "--", "/probe", "get", "http://127.0.0.1:8080/")
    assert answer.stdout == "ok from probe\n"


def test_loaded_image_stays_usable_after_a_pull_of_the_same_bytes(
    pulled: str, cluster: Cluster, namespace: str
) -> None:
    """The kubelet remembers pulls by digest; it must not want to pull a name that no registry has."""
    load_image(cluster, probe_image_tar())
    for name, image in (("pulled", pulled), ("loaded", PROBE_IMAGE)):
        cluster.kubectl("--namespace", namespace, "run", name, f"--image={image}", "--", "serve")
        ready = ["wait", "--for=condition=Ready", f"--timeout={PULL_SECONDS:.0f}s", f"pod/{name}"]
        cluster.kubectl("--namespace", namespace, *ready)


def test_wrong_tag_is_refused_with_the_registrys_words(pulled: str, cluster: Cluster, namespace: str) -> None:
    """The kubelet waits and says which image was not found, as a person will see it."""
    wrong = pulled.removesuffix(":1") + ":mistyped"
    cluster.kubectl("--namespace", namespace, "run", "wrong", f"--image={wrong}", "--image-pull-policy=Always")

    def refusal() -> str | None:
        pod = json.loads(cluster.kubectl("--namespace", namespace, "get", "pod", "wrong", "--output=json").stdout)
        for status in pod["status"].get("containerStatuses", []):
            waiting = status["state"].get("waiting", {})
            if waiting.get("reason") in {"ErrImagePull", "ImagePullBackOff"} and "not found" in waiting["message"]:
                return str(waiting["message"])
        return None

    assert wrong in str(wait_until(refusal, "the registry's words"))


def test_killed_build_leaves_no_process(registry: Registry, tmp_path: Path) -> None:
    """SIGKILL of the tool ends the build's programs too, and the next build starts afresh."""
    seconds = f"3600.{os.getpid()}"
    (tmp_path / "Containerfile").write_text(f"ARG BASE\nFROM ${{BASE}}\nRUN sleep {seconds}\n")
    code = (
        "import sys; from pathlib import Path; from tests.cluster.images import build_image\n"
        "from tests.cluster.registry import Registry\n"
        "context = Path(sys.argv[1])\n"
        "build_image(Registry(port=int(sys.argv[2])), context / 'Containerfile', context, 'tests/killed:1',"
        " build_args={'BASE': sys.argv[3]})"
    )
    argv = [sys.executable, "-c", code, str(tmp_path), str(registry.port), debian_image(registry).pinned]
    with subprocess.Popen(argv, start_new_session=True) as tool:
        wait_until(lambda: _sleeping(seconds), "the build's RUN", BUILD_SECONDS)
        tool.kill()
    wait_until(lambda: not _sleeping(seconds), "the end of the build's RUN", BUILD_SECONDS)
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "images/storage" in line]
    (tmp_path / "Containerfile").write_text(f"ARG BASE\nFROM ${{BASE}}\nRUN echo {seconds} > /done\n")
    base = {"BASE": debian_image(registry).pinned}
    assert build_image(registry, tmp_path / "Containerfile", tmp_path, "tests/killed:1", build_args=base).digest


def _sleeping(seconds: str) -> bool:
    """Tell whether some process of this machine is `sleep` with that very argument."""
    wanted = f"sleep\0{seconds}\0".encode()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if command.read_bytes() == wanted:
                return True
    return False
