"""S3 without a server: which region is meant, and how a missing bucket is made."""

from __future__ import annotations

import pytest
from botocore.stub import Stubber

from ratchet.adapters import s3
from ratchet.adapters.s3 import S3Store
from ratchet.errors import ServiceRefused

KEPT = {"Bucket": "b", "VersioningConfiguration": {"Status": "Enabled"}}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path):
    """Nothing of the machine's own AWS settings is seen."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    profiles = tmp_path / "config"
    profiles.write_text("[profile south]\nregion = eu-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(s3, "BACKOFF", 0)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", None])
@pytest.mark.parametrize(
    ("given", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_PROFILE": "south"}, "eu-south-1"),
        ({"AWS_PROFILE": "south", "AWS_REGION": "eu-west-1"}, "eu-west-1"),
    ],
)
def test_the_configured_region_is_used(monkeypatch, tmp_path, endpoint, given, region):
    """The usual variables and profiles say the region, on AWS and elsewhere."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert S3Store(endpoint, "b", tmp_path).client.meta.region_name == region


def test_without_a_region_only_a_server_of_one_s_own_is_given_one(tmp_path):
    """Where no region is configured, a server of one's own is told us-east-1, and AWS is left to boto3, which begins there."""
    assert S3Store("http://127.0.0.1:9", "b", tmp_path).client.meta.region_name == "us-east-1"
    assert S3Store(None, "b", tmp_path).client.meta.region_name == "us-east-1"  # boto3 asks AWS where a bucket lies


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Make a store whose server answers as told; each test says all that it is asked."""

    def make(region):
        monkeypatch.setenv("AWS_REGION", region)
        store = S3Store(None, "b", tmp_path)
        return store, Stubber(store.client)

    return make


@pytest.mark.parametrize(
    ("region", "place"),
    [("us-east-1", {}), ("eu-west-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}})],
)
def test_a_missing_bucket_is_made_where_the_region_is(stub, region, place):
    """A bucket is made in the configured region, which us-east-1 alone must not name, and keeps versions."""
    store, server = stub(region)
    server.add_client_error("head_bucket", "404", http_status_code=404)
    server.add_response("create_bucket", {}, {"Bucket": "b", **place})
    server.add_response("put_bucket_versioning", {}, KEPT)
    with server:
        store.ensure_bucket("b")
    server.assert_no_pending_responses()


def test_a_bucket_that_is_there_is_left_alone(stub):
    """One question about this bucket is all that is asked."""
    store, server = stub("eu-west-1")
    server.add_response("head_bucket", {}, {"Bucket": "b"})
    with server:
        store.ensure_bucket("b")


@pytest.mark.parametrize("code", ["BucketAlreadyOwnedByYou", "OperationAborted"])
def test_two_creators_of_one_bucket_both_get_it(stub, code):
    """Who comes second finds the bucket made."""
    store, server = stub("eu-west-1")
    server.add_client_error("head_bucket", "404", http_status_code=404)
    server.add_client_error("create_bucket", code, http_status_code=409)
    if code == "OperationAborted":
        server.add_response("head_bucket", {}, {"Bucket": "b"})
    else:
        server.add_response("put_bucket_versioning", {}, KEPT)
    with server:
        store.ensure_bucket("b")
    server.assert_no_pending_responses()


def test_a_bucket_of_somebody_else_is_refused(stub):
    """403 is no sign that a bucket is missing: none is made, and it is not asked again."""
    store, server = stub("eu-west-1")
    server.add_client_error("head_bucket", "403", http_status_code=403)
    with server, pytest.raises(ServiceRefused, match="creating bucket b failed: 403"):
        store.ensure_bucket("b")
