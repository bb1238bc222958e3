"""
Log lines: structlog, as JSON or for people, with secrets taken out.

The standard library's loggers (uvicorn, websockets, alembic) go the same way. Nothing else in the relay configures
logging.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from fairlead_relay.settings import LogFormat

REDACTED = "[redacted]"
_SECRET_NAMES = re.compile(
    r"secret|password|passwd|authorization|cookie|private_key|bearer|^token$|_token$", re.IGNORECASE
)
_SECRET_VALUES = (
    (re.compile(r"\b(flt_[0-9a-z]+_|fle1_[0-9a-z]+_)[0-9A-Za-z_]+"), rf"\1{REDACTED}"),
    (re.compile(r"(://[^/\s:@]+:)[^/\s@]+@"), rf"\1{REDACTED}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s'\",;]+", re.IGNORECASE), rf"\1 {REDACTED}"),
    # To its end, or to that of the text: half a key is a secret, too.
    (re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|\Z)", re.DOTALL), rf"\1{REDACTED}\2"),
)
"""API and enrolment tokens, passwords in URLs, credentials in headers and private keys, wherever they turn up."""
_DEEPEST = 6


def configure(log_format: LogFormat) -> None:
    """Send every log line of the process to standard error in one form."""
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # Tracebacks become text before secrets are taken out: an exception may hold one.
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*last, redact, renderer])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # One line per connection and per request at INFO is the relay's own business; theirs would say it twice.
    for noisy in ("websockets", "uvicorn", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of a log line: values under telling names, and token forms in any text."""
    return {key: REDACTED if _tells(key, value) else _clean(value, 0) for key, value in event.items()}


def _tells(key: object, value: object) -> bool:
    return isinstance(key, str) and value is not None and _SECRET_NAMES.search(key) is not None


def _clean(value: object, depth: int) -> object:
    if isinstance(value, str):
        for pattern, replacement in _SECRET_VALUES:
            value = pattern.sub(replacement, value)
        return value
    if depth >= _DEEPEST:
        return value
    if isinstance(value, Mapping):
        return {key: REDACTED if _tells(key, item) else _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, depth + 1) for item in value]
    return value
