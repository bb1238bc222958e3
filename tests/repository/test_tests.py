"""Rules for the tests: each module has one of its own, and each test says what it holds."""

import ast

from tests.repository.checkout import ROOT, Module, listed, modules, parse, python_files

MIRRORS = ("unit", "conformance", "integration")
"""Most modules have a unit test; one that is nothing without its I/O, as a table's statements, has it with that."""

TESTED_ELSEWHERE: dict[str, str] = {
    "agent/src/fairlead_agent/app.py": "tests/e2e/test_deploy.py",
    "agent/src/fairlead_agent/apply/engine.py": "tests/e2e/test_engine_crash.py",
    "agent/src/fairlead_agent/apply/plan.py": "tests/e2e/test_engine_plan.py",
    "agent/src/fairlead_agent/apply/planning.py": "tests/e2e/test_engine_consents.py",
    "agent/src/fairlead_agent/apply/pod_probe.py": "tests/e2e/test_engine_pods.py",
    "agent/src/fairlead_agent/apply/preflight.py": "tests/e2e/test_engine_refusals.py",
    "agent/src/fairlead_agent/apply/prune.py": "tests/e2e/test_engine_deploy.py",
    "agent/src/fairlead_agent/apply/quota_probe.py": "tests/e2e/test_engine_pods.py",
    "agent/src/fairlead_agent/apply/recovery.py": "tests/e2e/test_engine_recovery.py",
    "agent/src/fairlead_agent/apply/recreation.py": "tests/e2e/test_engine_consents.py",
    "agent/src/fairlead_agent/apply/writes.py": "tests/e2e/test_engine_deploy.py",
    "agent/src/fairlead_agent/connection.py": "tests/integration/test_agent_link.py",
    "agent/src/fairlead_agent/conversation.py": "tests/integration/test_agent_link.py",
    "agent/src/fairlead_agent/dialling.py": "tests/integration/test_agent_link.py",
    "agent/src/fairlead_agent/drift/environment.py": "tests/e2e/test_engine_drift.py",
    "agent/src/fairlead_agent/drift/sources.py": "tests/e2e/test_engine_drift.py",
    "agent/src/fairlead_agent/drift/watcher.py": "tests/e2e/test_engine_drift.py",
    "agent/src/fairlead_agent/execution.py": "tests/integration/test_agent_jobs.py",
    "agent/src/fairlead_agent/health/check.py": "tests/e2e/test_engine_health.py",
    "agent/src/fairlead_agent/health/wait.py": "tests/e2e/test_engine_health.py",
    "agent/src/fairlead_agent/inner_channel.py": "tests/integration/relay/test_inspected_agent.py",
    "agent/src/fairlead_agent/kube/state.py": "tests/e2e/test_engine_deploy.py",
    "agent/src/fairlead_agent/link.py": "tests/integration/test_agent_link.py",
    "agent/src/fairlead_agent/opening.py": "tests/integration/relay/test_inspected_agent.py",
    "agent/src/fairlead_agent/rejoin.py": "tests/integration/test_agent_link.py",
    "agent/src/fairlead_agent/runner.py": "tests/integration/test_agent_jobs.py",
    "relay/src/fairlead_relay/worker.py": "tests/integration/relay/planning/test_bundle_check.py",
    "cli/src/fairlead_cli/__init__.py": "tests/install/test_wheels.py",
}
"""Modules whose behaviour needs more than a unit test can have, each with the test that covers it instead."""


def has_behaviour(module: Module) -> bool:
    """
    Tell whether a module has something of its own to test.

    Names, types, data and ports have not; a `__main__` is run as its command by `tests/install`.
    """
    return module.path.stem != "__main__" and any(
        not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
    )


def test_each_module_has_its_test() -> None:
    """`X/src/fairlead_X/a/b.py` is tested by `X/a/test_b.py` in one of the folders that mirror the source."""
    missing = set()
    for module in modules():
        source = str(module.path.relative_to(ROOT))
        mirrored = module.relative.parent / f"test_{module.path.stem}.py"
        present = any((ROOT / "tests" / folder / module.member / mirrored).is_file() for folder in MIRRORS)
        if has_behaviour(module) and source not in TESTED_ELSEWHERE and not present:
            missing.add(f"{source} wants tests/unit/{module.member}/{mirrored}")
    assert not missing, listed("write the test, or say in TESTED_ELSEWHERE where it is", missing)


def test_modules_tested_elsewhere_are_there_with_their_tests() -> None:
    """An exception whose module or test is gone is an exception no more."""
    stale = {
        source
        for source, test in TESTED_ELSEWHERE.items()
        if not (ROOT / source).is_file() or not (ROOT / test).is_file()
    }
    assert not stale, listed("remove from TESTED_ELSEWHERE", stale)


def test_each_test_has_a_docstring_of_one_line() -> None:
    """The name says what, the docstring says why or what it means; more belongs in the code."""
    unclear = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in python_files()
        if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if len((ast.get_docstring(node) or "\n").strip().splitlines()) != 1
    }
    assert not unclear, listed("say in one line what the test holds", unclear)


def test_no_test_sleeps() -> None:
    """A sleep is too short on a slow machine and too long on a fast one: wait on a signal, or poll with a deadline."""
    sleeping = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files()
        if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    }
    assert not sleeping, listed("use tests.polling", sleeping)


LEAST_SECONDS = 20
"""Below it a process that a busy machine does not run for a while is taken for one that hangs."""


def test_no_limit_is_met_by_a_busy_machine() -> None:
    """A short limit fails by chance: `tests.polling.PATIENCE_SECONDS` costs nothing, unless the limit is to be met."""
    short = set()
    for path in python_files():
        if path.is_relative_to(ROOT / "tests"):
            tree = parse(path)
            to_be_met = {
                id(node)
                for block in ast.walk(tree)
                if isinstance(block, ast.With | ast.AsyncWith)
                and any("TimeoutError" in ast.unparse(item.context_expr) for item in block.items)
                for node in ast.walk(block)
            }
            short |= {
                f"{path.relative_to(ROOT)}:{call.lineno}"
                for call in ast.walk(tree)
                if isinstance(call, ast.Call) and id(call) not in to_be_met
                for limit in limits_of(call)
                if isinstance(limit, ast.Constant)
                and isinstance(limit.value, int | float)
                and limit.value < LEAST_SECONDS
            }
    assert not short, listed("wait for PATIENCE_SECONDS", short)


def limits_of(call: ast.Call) -> list[ast.expr]:
    """Return how long a call waits at most for what it waits for, in seconds; nothing if it is no such call."""
    named = [keyword.value for keyword in call.keywords if keyword.arg in {"deadline_seconds", "timeout"}]
    match ast.unparse(call.func):
        case "asyncio.timeout":
            return call.args[:1]
        case "asyncio.wait_for":
            return call.args[1:2] + named
        case "wait_until" | "eventually":
            return call.args[2:3] + named
        case "subprocess.run" | "subprocess.check_output":
            return named
    return []
