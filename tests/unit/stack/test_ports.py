"""Ports: asked for, remembered, usual or free."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack

import pytest

from ratchet.errors import SettingsInvalid, UsageError
from ratchet.stack import ports


@pytest.fixture
def listening():
    """Return a port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_is_free_and_a_listening_one_is_not(listening):
    """A listening socket takes the port; a closed one does not."""
    assert not ports.is_free(listening)
    assert ports.is_free(ports.any_free())


def test_any_free_avoids_what_is_taken(monkeypatch):
    """Two calls may be given the same number by the kernel: the one that is promised already is passed over."""
    first = ports.any_free()
    assert ports.any_free({first}) != first


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound socket keeps servers out too")
def test_a_reserved_port_is_kept_for_the_server_that_asks_for_it_by_its_number():
    """Who would be given any port is not given this one; a server that asks for it listens there."""
    with ports.reserved(["s3", "mlflow"]) as found, ExitStack() as sockets:
        assert len(set(found.values())) == 2
        for port in found.values():
            with pytest.raises(OSError, match="in use"):
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            assert ports.is_free(port)
            sockets.enter_context(socket.create_server(("127.0.0.1", port)))
            assert not ports.is_free(port)
    with socket.socket() as anybody:
        anybody.bind(("127.0.0.1", found["s3"]))


def test_a_port_that_was_asked_for_is_taken(monkeypatch):
    """An explicit wish is followed, and nothing needs to be said about it."""
    wish = ports.any_free()
    assert ports.choose(["s3"], {"s3": wish}, {}) == ports.Ports({"s3": wish})


def test_a_port_that_was_asked_for_and_is_in_use_is_refused_in_words(listening):
    """The message names the port, the service and the variable."""
    with pytest.raises(UsageError, match=rf"port {listening}, asked for mlflow \(RATCHET_MLFLOW_PORT\), is in use"):
        ports.choose(["mlflow"], {"mlflow": listening}, {})


def test_two_services_cannot_ask_for_one_port():
    """The second wish is refused, although nobody listens yet."""
    wish = ports.any_free()
    with pytest.raises(UsageError, match=str(wish)):
        ports.choose(["s3", "mlflow"], {"s3": wish, "mlflow": wish}, {})


def test_a_remembered_port_is_kept(listening):
    """Addresses outlive a restart."""
    remembered = ports.any_free()
    assert ports.choose(["airflow"], {}, {"airflow": remembered}) == ports.Ports({"airflow": remembered})


def test_a_remembered_port_that_is_in_use_is_left_and_it_is_said(listening):
    """Another port is taken, and a note says why."""
    found = ports.choose(["airflow"], {}, {"airflow": listening})
    assert found.chosen["airflow"] != listening
    assert found.notes == (f"port {listening} is in use, so airflow listens on {found.chosen['airflow']}",)


def test_all_services_get_ports_of_their_own():
    """No port is given twice."""
    found = ports.choose([d.name for d in ports.DOORS], {}, {})
    assert len(set(found.chosen.values())) == len(ports.DOORS)


def test_a_wish_for_anothers_usual_port_moves_the_other():
    """A wish goes before a habit."""
    usual = {d.name: d.usual for d in ports.DOORS}
    if not ports.is_free(usual["mlflow"]):
        pytest.skip("somebody listens on MLflow's usual port")
    found = ports.choose(["s3", "mlflow"], {"s3": usual["mlflow"]}, {})
    assert found.chosen["s3"] == usual["mlflow"]
    assert found.chosen["mlflow"] != usual["mlflow"]


def test_the_environment_asks():
    """Each port has its variable; an empty one asks for nothing."""
    assert ports.asked_for({"RATCHET_S3_PORT": "4577", "RATCHET_MLFLOW_PORT": " "}) == {"s3": 4577}


@pytest.mark.parametrize("text", ["http", "-1", "0", "65536", "5000.0"])
def test_what_is_no_port_is_refused(text):
    """The variable and what it holds are named."""
    with pytest.raises(SettingsInvalid, match="RATCHET_AIRFLOW_PORT"):
        ports.asked_for({"RATCHET_AIRFLOW_PORT": text})
