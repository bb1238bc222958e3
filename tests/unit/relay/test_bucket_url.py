"""URLs of buckets: what each part means, and what is refused."""

import pytest

from fairlead_relay.bucket_url import BucketUrl
from fairlead_relay.settings import Settings


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bundles", BucketUrl("bundles")),
        ("s3://bundles/", BucketUrl("bundles")),
        ("s3://Bundles/of/this%20relay/", BucketUrl("Bundles", "of/this relay")),
        ("s3://bundles?region=eu-central-1", BucketUrl("bundles", region="eu-central-1")),
        (
            "s3://bundles/a?endpoint=https://minio.example.com:9000&ca_file=/etc/ca.pem",
            BucketUrl("bundles", "a", "https://minio.example.com:9000", "", "/etc/ca.pem"),
        ),
    ],
)
def test_the_parts_of_a_url(url: str, place: BucketUrl) -> None:
    """Everything after the bucket may be left out."""
    assert BucketUrl.parse(url) == place
    assert Settings(blobs_url=url).blobs_url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3:bundles", "must be s3://bucket/prefix"),
        ("s3:///bundles", "must be s3://bucket/prefix"),
        ("s3://bundles#a", "must be s3://bucket/prefix"),
        ("s3://key:cr3t@bundles", "must hold no credentials: set AWS_ACCESS_KEY_ID"),
        ("s3://bundles?endpoint=https://key:cr3t@minio", "must hold no credentials"),
        ("s3://bundles?endpoint=minio:9000", "the endpoint must start with https://"),
        ("s3://bundles?secret_access_key=cr3t", "there is no option secret_access_key, only endpoint"),
        ("s3://bundles?region=a&region=b", "names an option twice"),
    ],
)
def test_what_is_no_url_of_a_bucket_is_refused(url: str, reason: str) -> None:
    """In words that repeat no secret."""
    with pytest.raises(ValueError, match=reason) as found:
        BucketUrl.parse(url)
    assert "cr3t" not in str(found.value)
    with pytest.raises(ValueError, match=reason):
        Settings(blobs_url=url)
