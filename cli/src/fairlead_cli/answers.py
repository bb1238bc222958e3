"""
Turns what the relay answers into records, and what goes wrong into errors of `errors`.

An error never repeats a value of an answer, which may be a token; of a foreign answer it shows the beginning. This
module sends nothing.
"""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fairlead_cli.errors import AnswerInvalid, ApiError

_MAX_ANSWER_CHARACTERS = 200
"""Of a foreign answer, shown in an error."""

RecordT = TypeVar("RecordT", bound=BaseModel)


def refusal_of(method: str, path: str, answer: httpx.Response) -> ApiError | AnswerInvalid:
    """Turn an error answer into the error it means."""
    try:
        problem = answer.json() if answer.content else {}
    except ValueError:
        problem = None
    is_problem = answer.headers.get("Content-Type", "").startswith("application/problem+json")
    if method == "HEAD":  # has no body
        status = HTTPStatus(answer.status_code)
        return ApiError(status, status.name.lower(), f"{path}: {status.phrase}", path=path)
    if not is_problem or not isinstance(problem, dict):
        shown = " ".join(answer.text.split())[:_MAX_ANSWER_CHARACTERS]
        return AnswerInvalid(f"{method} {path}", f"HTTP status {answer.status_code} and no problem details: {shown!r}")
    texts = {name: str(problem.get(name) or "") for name in ("code", "title", "detail", "field")}
    return ApiError(answer.status_code, **texts, path=path)


def page_of(call: str, answer: httpx.Response) -> dict[str, Any]:
    """Return a page of a list, with its `items`. Raises: AnswerInvalid: it is none."""
    try:
        page = answer.json()
    except ValueError:
        page = None
    if not isinstance(page, dict) or not isinstance(page.get("items"), list):
        raise AnswerInvalid(call, "the answer is no list")
    return page


def read_record(record: type[RecordT], call: str, content: bytes | str) -> RecordT:
    """Read a record from JSON. Raises: AnswerInvalid: it is none of this type."""
    try:
        return record.model_validate_json(content)
    except ValidationError as error:
        raise AnswerInvalid(call, _first(error)) from None


def record_of(record: type[RecordT], call: str, item: object) -> RecordT:
    """Make a record of an item of a list. Raises: AnswerInvalid: it is none of this type."""
    try:
        return record.model_validate(item)
    except ValidationError as error:
        raise AnswerInvalid(call, _first(error)) from None


def _first(error: ValidationError) -> str:
    """Say what the first wrong field is, without its value: it may be a token."""
    detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"the answer's {'.'.join(map(str, detail['loc'])) or 'body'} is not as expected: {detail['msg']}"


def is_mistrust(error: BaseException | None) -> bool:
    """Tell whether TLS refused the relay's certificate, which no retry changes."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def reason_of(error: httpx.TransportError) -> str:
    """Say why there was no answer, and what may help."""
    if is_mistrust(error):
        return f"its certificate is not trusted ({error}); name its CA with 'fairlead login --ca-file'"
    if isinstance(error, httpx.TimeoutException):
        return "it took too long; is the address right, and is the relay up?"
    return f"{str(error) or type(error).__name__}; is the address right, and is the relay up?"
