"""
Checkpoints: what a job needs to go on after the agent's pod is gone, one ConfigMap per job in the agent's namespace.

`fairlead-job-…` holds the offer (with the signed statement), the plan, and the result once it is decided, unless
the mark of the deployment holds that. It is made with the plan, before the job's first write, or with a result that
came before. Once the relay has stored the result it is deleted or, where other jobs are under way, spared for the next
one to write over. Nothing in it is secret.
"""

from __future__ import annotations

import base64
import gzip
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from fairlead_agent.errors import AlreadyExists, Conflict, NotFound
from fairlead_agent.logs import Logger
from fairlead_agent.ports import DeployPlan, StateKind, StatePort
from fairlead_shared.frames import JobOffer
from fairlead_shared.progress import ResultEvent

LABEL: Final = "fairlead.dev/state"
_VALUE: Final = "job"
_PREFIX: Final = "fairlead-job-"
_JOB_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
_WRITE_ATTEMPTS = 5
"""Only this agent writes its checkpoints: a conflict means an earlier write of ours, by a killed process or
unanswered."""


def is_storable(job_id: str) -> bool:
    """Tell whether a job id can stand in an object's name, as every honest relay's can."""
    return _JOB_ID.fullmatch(job_id) is not None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A job as its ConfigMap has it."""

    offer: JobOffer
    plan: DeployPlan | None = None
    result: ResultEvent | None = None

    def is_later_than(self, other: Checkpoint) -> bool:
        """Tell which of two that were found of one job is the one to go on from."""
        return (self.offer.token, self.result is not None) > (other.offer.token, other.result is not None)


class CheckpointStore:
    """
    All checkpoints of this agent.

    Args:
        state: The agent's own namespace.
        logger: For checkpoints that cannot be read.
    """

    def __init__(self, state: StatePort, logger: Logger) -> None:
        self._state = state
        self._logger = logger
        self._versions: dict[str, str] = {}
        """Name → resourceVersion of the last write or read, so that a save is one request."""
        self._names: dict[str, str] = {}
        """Job id → name of its checkpoint: its own, or that of a job that was over."""
        self._spared: list[str] = []
        """Names of those whose jobs are over."""

    async def load_all(self) -> list[Checkpoint]:
        """Return every checkpoint, in the order of their offers' tokens. Raises: KubeError."""
        found: dict[str, Checkpoint] = {}
        for manifest in await self._state.select(StateKind.CONFIG_MAP, f"{LABEL}={_VALUE}"):
            name, checkpoint = manifest["metadata"]["name"], self._read(manifest)
            if checkpoint is None:
                continue
            job_id = checkpoint.offer.job_id
            if job_id not in found:
                found[job_id], self._names[job_id] = checkpoint, name
            elif checkpoint.is_later_than(found[job_id]):
                self._spared.append(self._names[job_id])
                found[job_id], self._names[job_id] = checkpoint, name
            else:
                self._spared.append(name)
        return sorted(found.values(), key=lambda checkpoint: checkpoint.offer.token)

    async def save(self, checkpoint: Checkpoint) -> None:
        """Create or replace a job's checkpoint; returns once the API server has it. Raises: KubeError."""
        job_id = checkpoint.offer.job_id
        manifest = _render(checkpoint)
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            name = self._names.get(job_id) or self._name(job_id)
            manifest["metadata"]["name"] = self._names[job_id] = name
            try:
                if name in self._versions:
                    manifest["metadata"]["resourceVersion"] = self._versions[name]
                    stored = await self._state.update(StateKind.CONFIG_MAP, manifest)
                else:
                    manifest["metadata"].pop("resourceVersion", None)
                    stored = await self._state.create(StateKind.CONFIG_MAP, manifest)
            except (AlreadyExists, Conflict, NotFound):
                if attempt == _WRITE_ATTEMPTS:
                    raise
                self._versions.pop(name, None)
                live = await self._state.read(StateKind.CONFIG_MAP, name)
                there = None if live is None else self._read(live)
                if there is not None and there.offer.job_id != job_id:
                    # It was spared, and is not as it was left: whose it is now is not known here.
                    del self._names[job_id]
            else:
                self._versions[name] = stored["metadata"]["resourceVersion"]
                return

    async def spare(self, job_id: str, most: int) -> None:
        """
        Leave a job's checkpoint to the next job, which makes one write of two, and delete those that are too many.

        Only of a job whose result is kept and was told: should it be found again, nothing is carried out.

        Args:
            job_id: Whose; none is fine.
            most: How many may be left.
        Raises: KubeError.
        """
        if job_id in self._names:
            self._spared.append(self._names.pop(job_id))
        while len(self._spared) > most:
            name = self._spared.pop()
            try:
                await self._delete(name)
            except BaseException:  # failed or cancelled: it is still there, to be deleted the next time
                self._spared.append(name)
                raise

    async def delete(self, job_id: str) -> None:
        """Delete a job's checkpoint; none is fine. Raises: KubeError."""
        if (name := self._names.get(job_id)) is not None:
            await self._delete(name)
            del self._names[job_id]

    def has(self, job_id: str) -> bool:
        """Tell whether a checkpoint of a job was found, or a write of one begun."""
        return job_id in self._names

    def _name(self, job_id: str) -> str:
        """Return where to write the checkpoint of a job that has none."""
        if self._spared:
            return self._spared.pop()
        name = f"{_PREFIX}{job_id}"
        return name if name not in self._names.values() else f"{name}-{secrets.token_hex(4)}"

    async def _delete(self, name: str) -> None:
        for attempt in range(1, _WRITE_ATTEMPTS + 1):
            try:
                await self._state.delete(StateKind.CONFIG_MAP, name, self._versions.pop(name, ""))
            except Conflict:
                live = await self._state.read(StateKind.CONFIG_MAP, name)
                if attempt == _WRITE_ATTEMPTS:
                    raise
                if live is not None:
                    self._versions[name] = live["metadata"]["resourceVersion"]
            else:
                return

    def _read(self, manifest: dict[str, Any]) -> Checkpoint | None:
        self._versions[manifest["metadata"]["name"]] = manifest["metadata"]["resourceVersion"]
        content, binary = manifest.get("data") or {}, manifest.get("binaryData") or {}
        try:
            plan = binary.get("plan.json.gz")
            return Checkpoint(
                offer=JobOffer.model_validate_json(content["offer"]),
                plan=None if plan is None else DeployPlan.model_validate_json(gzip.decompress(base64.b64decode(plan))),
                result=ResultEvent.model_validate_json(content["result"]) if "result" in content else None,
            )
        except (KeyError, ValidationError, ValueError, OSError) as error:
            # Left where it is: the relay hears that the job is not known here and offers it again.
            name = manifest["metadata"]["name"]
            self._logger.warning("checkpoint.unreadable", name=name, error=f"{type(error).__name__}: {error}"[:300])
            return None


def _render(checkpoint: Checkpoint) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "metadata": {"labels": {LABEL: _VALUE}},
        "data": {"offer": checkpoint.offer.model_dump_json(by_alias=True, exclude_none=True)},
    }
    if checkpoint.result is not None:
        manifest["data"]["result"] = checkpoint.result.model_dump_json(exclude_none=True)
    if checkpoint.plan is not None:
        # Compressed: what is to be pruned from a large environment is megabytes of names and UIDs.
        packed = gzip.compress(checkpoint.plan.model_dump_json().encode(), mtime=0)
        manifest["binaryData"] = {"plan.json.gz": base64.b64encode(packed).decode()}
    return manifest
