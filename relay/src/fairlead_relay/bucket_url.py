"""
The URL of a bucket: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&ca_file=FILE`, everything after the bucket optional.

Where the bucket is stands in the settings for everybody to read; who may use it stands nowhere in them. Must not talk
to the service, nor take a credential.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

FORM: Final = "s3://bucket/prefix?endpoint=URL&region=NAME&ca_file=FILE"
_OPTIONS: Final = ("endpoint", "region", "ca_file")


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """Where content is in S3, or in a service that speaks its API."""

    bucket: str
    prefix: str = ""
    """Of every object's name, without slashes around it; empty: the bucket is Fairlead's alone."""
    endpoint: str = ""
    """URL of the service; empty: what AWS_ENDPOINT_URL_S3 names, else the region's at Amazon."""
    region: str = ""
    """Empty: what AWS_REGION names, else us-east-1, which services elsewhere take."""
    ca_file: str = ""
    """PEM file of certificates that are trusted besides the system's."""

    @classmethod
    def parse(cls, url: str) -> BucketUrl:
        """
        Read one.

        Raises: ValueError: it is none, or holds a credential or an option that there is not; repeats no value.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.hostname or parts.fragment:
            raise ValueError(f"must be {FORM}, where everything after the bucket may be left out")
        if "@" in parts.netloc or "@" in urlsplit(dict(parse_qsl(parts.query)).get("endpoint", "")).netloc:
            raise ValueError("must hold no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
        options = parse_qsl(parts.query, keep_blank_values=True)
        if unknown := [name for name, _ in options if name not in _OPTIONS]:
            raise ValueError(f"there is no option {unknown[0][:50]}, only {', '.join(_OPTIONS)}")
        if len(options) > len(dict(options)):
            raise ValueError("names an option twice")
        place = cls(parts.netloc, unquote(parts.path).strip("/"), **dict(options))
        if place.endpoint and (
            urlsplit(place.endpoint).scheme not in {"http", "https"} or not urlsplit(place.endpoint).hostname
        ):
            raise ValueError("the endpoint must start with https:// or http:// and name a host")
        return place
