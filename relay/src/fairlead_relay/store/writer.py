"""
The store: runs plain functions on the database, off the event loop.

**Writes** go through one thread, in order. It takes what waits (up to a bound), runs each function in a savepoint of
one transaction, commits once, and only then answers all of them: an answer means that the commit is on the disk, and a
failed function undoes only its own. So one fsync serves many writes (group commit), and SQLite's single writer is no
bottleneck.

On PostgreSQL the same thread first takes an advisory lock that every relay's writer takes. Writes of several relays are
thus in one order too: positions become visible in the order of their numbers, so that a reader that resumes after a
position misses nothing, and functions that read before they write see no half of another's change. Group commit is what
pays for it. Each commit announces itself to the other relays in its own transaction, see announcements.py.

**Reads** run on a small pool, each in one snapshot.

**Damage** of an SQLite file, once it is seen, ends both: what is read may be wrong, and each write may spoil more of
what could still be saved. A start looks through the whole file.

Must not hold statements, and must not be given functions that wait for anything but the database.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from fairlead_relay.errors import StoreDamaged, StoreError, StoreOverloaded, StoreUnavailable
from fairlead_relay.store.announcements import announce
from fairlead_relay.store.engines import (
    check_file,
    check_place,
    parse_url,
    reader_engine,
    run_bare,
    translate,
    writer_engine,
)
from fairlead_relay.store.meta import ensure_store_epoch
from fairlead_relay.store.migrate import migrate, note_usable_from
from fairlead_relay.store.outbox import Notice, outbox

_log = structlog.get_logger(__name__)
T = TypeVar("T")
Item = TypeVar("Item")
Together = Callable[[Connection, Sequence[Item]], Sequence[T | Exception]]
"""Does the same for many, in a few statements; gives each its result, or the error that is its own."""
Rider = Callable[[Connection], None]
"""What somebody up the call wants done in the same transaction as a write, if that succeeds."""
Publish = Callable[[Sequence[Notice], int], None]
"""(notices of a commit, position of the last event that was stored before them; 0 if no other relay could write)."""

_RIDER: Final[ContextVar[Rider | None]] = ContextVar("rider", default=None)

_NEXT_SAVEPOINT: Final = {
    "sqlite": ("RELEASE SAVEPOINT one_write", "SAVEPOINT one_write"),
    "postgresql": ("RELEASE SAVEPOINT one_write; SAVEPOINT one_write",),  # one round trip
}
"""Between two writes."""

READERS: Final = 4
"""Reads are short and the machine has few cores; more would only queue inside the database."""
_BATCH: Final = 256
"""Writes per commit: at 0.3 ms each, no write waits longer than about 80 ms for those before it."""
_WAITING: Final = 10_000
"""Writes that may wait; beyond it callers are told to come back."""
_ADVISORY_LOCK: Final = 0x6661_6972_6C65_6164
"""'fairlead' in ASCII."""


@contextmanager
def riding(rider: Rider | None) -> Iterator[None]:
    """Have something done with each write that is asked for inside, in its transaction; None: nothing any more."""
    before = _RIDER.set(rider)
    try:
        yield
    finally:
        _RIDER.reset(before)


@dataclass(slots=True)
class _Write:
    together: Together[Any, Any]
    item: Any
    rider: Rider | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Store:
    """
    The relay's database.

    Args:
        url: sqlite:////path/to/file or postgresql://user@host/database.
        publish: Called in the event loop with what each commit put into the outbox, in commit order, before the writers
            of that commit go on.
        observe: Called in the writer's thread with how many writes a commit held and its seconds, also if it failed.
    """

    def __init__(self, url: str, publish: Publish, observe: Callable[[int, float], None] = lambda *_: None) -> None:
        self._url = parse_url(url)
        self._publish = publish
        self._observe = observe
        self._waiting: queue.Queue[_Write | None] = queue.Queue(_WAITING)
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reading = 0
        self._damage: str | None = None
        """What SQLite said of the file, once that was found to be damaged."""
        self.sender = secrets.token_hex(8)
        """Under this name its commits are announced to the other relays."""
        self.epoch = ""
        """Changes when the store was restored from a backup; known after `start`."""

    async def start(self) -> None:
        """
        Bring the schema up to date and begin to work. Idempotent.

        Raises: StoreUnusable, StoreUnavailable: the database cannot be used, or does not answer.
        """
        if self._thread is not None:
            return
        check_place(self._url)
        writer = writer_engine(self._url)
        try:
            self.epoch = await asyncio.to_thread(_prepare, writer)
        except BaseException:
            writer.dispose()
            raise
        self._writer = writer
        self._reader = reader_engine(self._url, READERS)
        self._readers = ThreadPoolExecutor(READERS, "store-reader")
        self._thread = threading.Thread(target=self._write_loop, args=(self._writer,), name="store-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish the writes that wait, then close every connection. Idempotent; complete on return."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        await asyncio.to_thread(self._waiting.put, None)
        await asyncio.to_thread(thread.join)
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
        for engine in (self._writer, self._reader):
            if engine is not None:
                engine.dispose()

    async def write(self, run: Callable[[Connection], T]) -> T:
        """
        Run a function that changes something; its result is returned once the commit is durable.

        Args:
            run: Gets the connection; must be quick, and safe to be undone and never run again.
        Returns: What the function returned.
        Raises: Whatever the function raised; then nothing of it is stored. StoreOverloaded: nothing was run.
            StoreUnavailable: the database failed; whether the write took effect is not known. StoreDamaged: it will
            take no more.
        """
        # A function of its own for each call: it runs together with no other.
        return await self.write_together(lambda connection, _: [run(connection)], None)

    async def write_together(self, together: Together[Item, T], item: Item) -> T:
        """
        Do what others ask for at the same time together with theirs, each acknowledged once the commit is durable.

        Round trips and the making of statements are then paid once for a commit instead of once for each.

        Args:
            together: The very same function for all that may run together. If it raises, it is run again for each item
                alone, after its changes were undone.
            item: What it is to do for this caller.
        Returns: Its result for the item.
        Raises: As `write`.
        """
        loop = asyncio.get_running_loop()
        if self._thread is None:
            raise StoreUnavailable("it is stopped")
        self._check_damage()
        future: asyncio.Future[T] = loop.create_future()
        try:
            self._waiting.put_nowait(_Write(together, item, _RIDER.get(), loop, future))
        except queue.Full:
            raise StoreOverloaded(f"{_WAITING} writes wait") from None
        return await future

    async def read(self, run: Callable[[Connection], T]) -> T:
        """
        Run a function that changes nothing, in one snapshot.

        Raises: Whatever the function raised. StoreOverloaded: nothing was run. StoreUnavailable: the database failed.
            StoreDamaged: it is not to be relied upon.
        """
        self._check_damage()
        if self._readers is None or self._reader is None or self._thread is None:
            raise StoreUnavailable("it is stopped")
        if self._reading >= _WAITING:
            raise StoreOverloaded(f"{_WAITING} reads wait")
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, _read, self._reader, run)
        except StoreDamaged as error:
            self._note_damage(error)
            raise
        finally:
            self._reading -= 1

    def _check_damage(self) -> None:
        if self._damage is not None:
            raise StoreDamaged(self._damage)

    def _note_damage(self, error: StoreDamaged) -> None:
        """Write it down once, and let nothing more be read or written."""
        if self._damage is None:
            self._damage = error.reason
            _log.error("store damaged", reason=error.reason, remedy=error.remedy)

    def _write_loop(self, engine: Engine) -> None:
        stopping = False
        while not stopping:
            batch: list[_Write] = []
            first = self._waiting.get()
            stopping = first is None
            if first is not None:
                batch.append(first)
            while len(batch) < _BATCH and not stopping:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stopping = True
                else:
                    batch.append(following)
            if batch:
                begun = time.monotonic()
                self._commit(engine, batch)
                self._observe(len(batch), time.monotonic() - begun)

    def _commit(self, engine: Engine, batch: list[_Write]) -> None:
        notices: list[Notice] = []
        before = 0
        try:
            self._check_damage()
            with engine.connect() as connection, connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
                outbox(connection).clear()
                _run_each(connection, _gathered(batch))
                notices = list(outbox(connection))
                if notices and connection.dialect.name == "postgresql":
                    before = announce(connection, self.sender, notices)
        except (SQLAlchemyError, StoreDamaged) as error:
            notices = []
            failed = translate(error) if isinstance(error, SQLAlchemyError) else error
            if isinstance(failed, StoreDamaged):
                self._note_damage(failed)
            for write in batch:
                write.result, write.error = None, _afresh(failed)
        # A loop that was closed meanwhile has nobody left who waits.
        for loop in {write.loop for write in batch if not write.loop.is_closed()}:
            loop.call_soon_threadsafe(self._answer, [write for write in batch if write.loop is loop], notices, before)

    def _answer(self, batch: list[_Write], notices: list[Notice], before: int) -> None:
        self._publish(notices, before)
        for write in batch:
            if write.future.cancelled():
                continue
            if write.error is None:
                write.future.set_result(write.result)
            else:
                write.future.set_exception(write.error)


def _prepare(engine: Engine) -> str:
    try:
        with engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            check_file(connection)
            migrate(connection)
            note_usable_from(connection)
            return ensure_store_epoch(connection)
    except SQLAlchemyError as error:
        raise translate(error) from error


def _read(engine: Engine, run: Callable[[Connection], T]) -> T:
    try:
        with engine.connect() as connection, connection.begin():
            return run(connection)
    except SQLAlchemyError as error:
        raise translate(error) from error


def _afresh(error: StoreError) -> StoreError:
    """Return the same error for one more who waits: a traceback is each one's own."""
    return type(error)(error.reason)


def _gathered(batch: Sequence[_Write]) -> list[list[_Write]]:
    """Return the writes in order, those that run together in one list, where the first of them is."""
    groups: dict[Together[Any, Any], list[_Write]] = {}
    for write in batch:
        groups.setdefault(write.together, []).append(write)
    return list(groups.values())


def _run_each(connection: Connection, groups: Sequence[list[_Write]]) -> None:
    """Run groups of writes one after the other, so that the failure of one undoes its own changes and notices only."""
    for number, writes in enumerate(groups):
        for statement in ("SAVEPOINT one_write",) if number == 0 else _NEXT_SAVEPOINT[connection.dialect.name]:
            run_bare(connection, statement)
        told = len(outbox(connection))
        try:
            _run(connection, writes)
        except Exception as error:  # whatever a caller's function raises is its caller's, and undone
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            failed = translate(error) if isinstance(error, SQLAlchemyError) else error
            if isinstance(failed, StoreDamaged):
                raise failed from error  # nothing of this commit is to be written
            del outbox(connection)[told:]
            run_bare(connection, "ROLLBACK TO SAVEPOINT one_write")
            if len(writes) > 1:
                # One of them spoils it for all: each alone.
                _run_each(connection, [[write] for write in writes])
            else:
                writes[0].error = failed
    # It is missing if the library rolled back by itself, as SQLite's does when the disk is full.
    run_bare(connection, "RELEASE SAVEPOINT one_write")


def _run(connection: Connection, writes: list[_Write]) -> None:
    answers = writes[0].together(connection, [write.item for write in writes])
    for write, answer in zip(writes, answers, strict=True):
        if isinstance(answer, Exception):
            write.error = answer
        else:
            write.result = answer
            if write.rider is not None:
                write.rider(connection)
