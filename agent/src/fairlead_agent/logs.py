"""
Set-up of structured logs: JSON lines for machines, a readable form for a terminal, both on stderr.

Secrets never reach a log: what holds one hides it in its repr, and no processor here adds local variables of a
traceback.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import FilteringBoundLogger, Processor

Logger = FilteringBoundLogger


def set_up_logs(log_format: Literal["json", "console"]) -> Logger:
    """
    Configure structlog and the standard library's loggers for the whole process.

    Args:
        log_format: `json` writes one object a line; `console` writes for people.
    Returns: The root logger, to be handed on as an argument.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        last = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries warn through the standard library; their debug lines may hold frames and headers, so they stay off.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logger: Logger = structlog.get_logger()
    return logger
