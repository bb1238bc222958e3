"""
What requests and answers are made of: one class each, so that every model of the API keeps the same rules.

A request with a field that this relay does not know is refused: whoever asks for something must not be given something
else in silence. An answer may gain fields in any version, and clients ignore those that they do not know.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from fairlead_shared.identity import NAME_RULE

Name = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            "maxLength": 63,
            "description": NAME_RULE[0].upper() + NAME_RULE[1:] + ".",
        }
    ),
]
"""A name that somebody chooses: `check_name` judges it, with a better sentence than a pattern has."""


class Asked(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Shown(BaseModel):
    """The body of an answer, or a part of it."""

    model_config = ConfigDict(use_attribute_docstrings=True)
