"""A real S3 server, PostgreSQL and MLflow, started, killed, recovered and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.request

import psutil
import pytest

from ratchet import stack
from ratchet.errors import UsageError
from ratchet.stack.folder import load
from ratchet.stack.record import Run

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Run the store, the database and MLflow on free ports."""
    with stack.embedded(tmp_path_factory.mktemp("stack")) as found:
        yield found


@pytest.fixture
def s3(running):
    """Return a client of the store."""
    import boto3

    env = running.environment
    return boto3.client(
        "s3",
        endpoint_url=env["RATCHET_S3_ENDPOINT"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )


def _wait_for(condition):
    while not (found := condition()):
        time.sleep(0.1)
    return found


def _get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.status


def test_all_is_well_and_listens_on_the_loopback_address_only(running):
    """Every process of the stack that listens does so on 127.0.0.1."""
    found = stack.status(running.state)
    assert found.healthy, found
    for service in found.services:
        if service.pid is None:
            continue
        process = psutil.Process(service.pid)
        for one in (process, *process.children(recursive=True)):
            listening = [c.laddr.ip for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            assert set(listening) <= {"127.0.0.1"}, service.name


def test_the_buckets_are_there_and_keep_versions(s3):
    """What was read once can be read again, although somebody overwrote it."""
    assert {b["Name"] for b in s3.list_buckets()["Buckets"]} >= {"lake", "ratchet", "mlflow"}
    for bucket in ("lake", "ratchet"):
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_the_store_lets_one_of_two_writers_win(s3):
    """The ledger stands on this."""
    from botocore.exceptions import ClientError

    s3.put_object(Bucket="ratchet", Key="probe", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="ratchet", Key="probe", Body=b"second", IfNoneMatch="*")


def test_up_again_changes_nothing(running):
    """The same processes go on, and nothing is started or waited for."""
    before = {s.name: s.pid for s in stack.status(running.state).services}
    told = []
    found = stack.up(running.state, services=["mlflow"], owner=os.getpid(), progress=told.append)
    assert {s.name: s.pid for s in found.services} == before
    assert {said.state for said in told} <= {"healthy", "done"}


def test_artifacts_come_through_mlflow_alone(running):
    """No client is sent to the object store, by an address with a key that this does not know: loading a model took minutes, and failed."""
    with urllib.request.urlopen(f"{running.environment['MLFLOW_TRACKING_URI']}/api/3.0/mlflow/server-info") as answer:
        told = json.load(answer)
    assert told["store_type"] == "SqlStore"
    assert (told["multipart_uploads_enabled"], told["multipart_downloads_enabled"]) == (False, False)


def test_a_running_service_is_not_moved(running):
    """Another port is refused in words while the service runs."""
    with pytest.raises(UsageError, match="ratchet down"):
        stack.up(running.state, services=["s3"], ports={"s3": 4999})


def test_a_killed_service_is_shown_and_up_starts_it_again(running):
    """Its exit and last words are there; the others went on; its data too."""
    env = running.environment["MLFLOW_TRACKING_URI"]
    before = stack.status(running.state)
    psutil.Process(before.named("mlflow").pid).kill()
    crashed = _wait_for(lambda: (s := stack.status(running.state).named("mlflow")).state == "crashed" and s)
    assert crashed.detail == "was killed by SIGKILL"
    assert not stack.status(running.state).healthy
    assert "mlflow failed" in stack.status(running.state).note
    after = stack.up(running.state, services=["mlflow"], owner=os.getpid())
    assert after.healthy
    assert after.named("s3").pid == before.named("s3").pid
    assert _get(f"{env}/health") == 200


def test_a_killed_supervisor_is_recovered_from(running, s3):
    """What it left behind is stopped, everything starts again on the same ports, and nothing stored is lost."""
    s3.put_object(Bucket="lake", Key="kept", Body=b"still here")
    folder = stack.state_folder(running.state)
    run = load(folder.run, Run)
    orphans = [psutil.Process(s.process.pid) for s in run.services if s.process and s.process.alive()]
    psutil.Process(run.supervisor.pid).kill()
    _wait_for(lambda: not run.supervisor.alive())
    assert "supervisor is gone" in stack.status(running.state).note
    found = stack.up(running.state, services=["mlflow"], owner=os.getpid())
    assert found.healthy
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in orphans)
    assert stack.environment(running.state) == running.environment
    assert s3.get_object(Bucket="lake", Key="kept")["Body"].read() == b"still here"


def test_down_stops_all_of_it_and_keeps_the_data(tmp_path):
    """Nothing listens any more; a second `down` has nothing to do."""
    with stack.embedded(tmp_path / "state", services=["s3"]) as found:
        pid = found.status.named("s3").pid
        assert stack.down(found.state)
        with contextlib.suppress(psutil.NoSuchProcess):
            assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert not stack.status(found.state).running
        assert stack.environment(found.state) == {}
        assert (found.state / "s3").is_dir()
        assert not stack.down(found.state)
