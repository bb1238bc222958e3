"""What each member may import from third parties; import-linter judges what members import from each other."""

import itertools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.repository.checkout import MEMBERS, ROOT, Module, listed, modules

SHARED_MAY_IMPORT = {"pydantic", "cryptography"}
"""Whatever `shared` imports, every agent carries."""

KUBERNETES_CLIENTS = {"aiohttp", "kubernetes"}
"""Only `fairlead_agent.kube` talks to the Kubernetes API, so that its rules hold for every request."""

LOADED_BY_NAME = {"httptools", "psycopg"}
"""Another library imports these when a setting names them: uvicorn its parser, SQLAlchemy its driver."""


def normalised(name: str) -> str:
    """Spell a distribution's name as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(member: str) -> set[str]:
    """Read the names of a member's dependencies, extras included."""
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project.get("optional-dependencies", {}).values())
    requirements = [*project["dependencies"], *extras]
    return {normalised(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def third_party(module: Module) -> dict[str, int]:
    """Map the third-party packages that a module imports to the line of the import."""
    roots = {name.partition(".")[0]: line for name, line in module.imports().items()}
    return {root: line for root, line in roots.items() if root not in sys.stdlib_module_names | set(MEMBERS.values())}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_imports_only_what_it_declares(member: str) -> None:
    """An undeclared import works in the workspace and fails where the member is installed alone."""
    distributions = packages_distributions()
    allowed = declared(member)
    undeclared = {
        f"{module.relative}:{line} imports {root}"
        for module in modules()
        if module.member == member
        for root, line in third_party(module).items()
        if not allowed & {normalised(name) for name in distributions.get(root, [root])}
    }
    assert not undeclared, listed(f"declare in {member}/pyproject.toml, or do without", undeclared)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_declares_only_what_it_imports(member: str) -> None:
    """A dependency without a user is weight in every image, and one more that may have a flaw."""
    distributions = packages_distributions()
    roots = {root for module in modules() if module.member == member for root in third_party(module)}
    used = {normalised(name) for root in roots for name in distributions.get(root, [root])}
    unused = declared(member) - used - {normalised(package) for package in MEMBERS.values()} - LOADED_BY_NAME
    assert not unused, listed(f"take out of {member}/pyproject.toml", unused)


def test_shared_declares_only_pydantic_and_cryptography() -> None:
    """Both ends carry what shared depends on."""
    assert declared("shared") == SHARED_MAY_IMPORT


def test_only_kube_imports_a_kubernetes_client() -> None:
    """A request to the Kubernetes API from elsewhere would pass by the rules kept in one place."""
    elsewhere = {
        f"{module.relative}:{line} imports {root}"
        for module in modules()
        if module.member == "agent" and module.relative.parts[0] != "kube"
        for root, line in third_party(module).items()
        if root in KUBERNETES_CLIENTS
    }
    assert not elsewhere, listed("go through fairlead_agent.kube", elsewhere)
