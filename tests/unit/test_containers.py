"""The container files: valid, private by default, without a secret in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yaml").read_text()
NEEDED = sorted(set(re.findall(r"\$\{(\w+):\?", COMPOSE)))
ONCE = {"buckets", "airflow-migrate"}


def _tool(*names: str) -> str:
    """Find a development tool beside this Python or on the PATH; the test is skipped, and says so, where there is none."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for name in names:
        if found := shutil.which(name, path=places):
            return found
    pytest.skip(f"{names[0]} is not installed: `make test` brings it")


def _config(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_tool("docker-compose"), "--env-file", os.devnull, "-f", "docker-compose.yaml", "config", *arguments]
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def config():
    """Return the composition as Docker reads it."""
    found = _config({name: f"value{n}" for n, name in enumerate(NEEDED)}, "--format", "json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.parametrize("missing", NEEDED)
def test_no_secret_has_a_default(missing):
    """Without the variable nothing starts, and the message names it."""
    found = _config({name: "x" for name in NEEDED if name != missing}, "--quiet")
    assert found.returncode != 0
    assert missing in found.stderr


def test_the_variables_are_listed_at_the_top():
    """Who reads the first lines knows what to set."""
    top = COMPOSE.partition("\nname:")[0]
    assert [name for name in NEEDED if f"{name}=" not in top] == []


def test_published_ports_are_on_the_loopback_address(config):
    """Nobody on the network reaches a service unasked."""
    ports = [(name, port) for name, s in config["services"].items() for port in s.get("ports", ())]
    assert {name for name, _ in ports} == {"s3", "mlflow", "airflow-api"}
    assert {port["host_ip"] for _, port in ports} == {"127.0.0.1"}


def test_every_lasting_service_has_a_health_check(config):
    """What ends is no service."""
    assert {name for name, s in config["services"].items() if "healthcheck" not in s} == ONCE


def test_our_containers_hold_no_privileges(config):
    """No capability, and no way to gain one."""
    for name, service in config["services"].items():
        if name != "postgres":
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_dockerfile_passes_hadolint():
    """The linter for Dockerfiles has nothing to say."""
    found = subprocess.run([_tool("hadolint"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_image_is_not_run_by_root_and_installs_by_hash():
    """The base is pinned to a release, and each package to its content."""
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
    assert all("--require-hashes" in line for line in text.splitlines() if "pip install" in line)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.12-slim-bookworm"}
