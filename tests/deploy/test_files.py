"""The deployment's files: well-formed, in step with the server, and nothing that they name is missing."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.app import ROUTES
from gateway.command_line import load
from gateway.config import SETTINGS, Settings
from gateway.json_guard import LARGEST_BODY
from gateway.nats_server import binary

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "gateway" / "deploy"
HADOLINT = Path(sys.executable).with_name("hadolint")
VARIABLES = {name for setting in SETTINGS for name in setting.env}
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def unit() -> dict[str, dict[str, str]]:
    """The systemd unit's sections."""
    parsed = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parsed.read(DEPLOY / "abstractcore.service")
    return {name: dict(parsed[name]) for name in parsed.sections()}


def program() -> dict[str, str]:
    """Supervisor's section."""
    parsed = configparser.ConfigParser(inline_comment_prefixes=(";",), interpolation=None)
    parsed.read(DEPLOY / "supervisor.conf")
    return dict(parsed["program:abstractcore"])


def hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, dockerfile], capture_output=True, text=True, timeout=180, check=False)


def test_the_linter_has_nothing_against_the_dockerfile(tmp_path: Path) -> None:
    found = hadolint(DEPLOY / "Dockerfile")
    assert (found.returncode, found.stdout) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text("FROM python\nRUN cd /tmp && sudo pip install abstractcore-server\n")
    assert hadolint(worse).returncode == 1


def test_the_image_runs_a_command_line_that_the_server_takes() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (line,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    program, *argv = yaml.safe_load(line)
    settings = load(argv, {})
    assert (program, settings.host, settings.port) == ("abstractcore-server", "0.0.0.0", 8000)
    assert f"VOLUME {settings.data_dir}" in text
    assert "/health" in {route.path for route in ROUTES if hasattr(route, "path")}
    copied = (DEPLOY / "Dockerfile.dockerignore").read_text()
    for needed in ("pyproject.toml", "README.md", "eventstore", "projections", "gateway", "replay"):
        assert f"!{needed}\n" in copied
        assert (ROOT / needed).exists()


def test_the_composition_names_nothing_that_is_not_there() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        volumes = {volume.split(":")[0] for volume in service.get("volumes", ())}
        configs = {config["source"] for config in service.get("configs", ())}
        assert volumes <= COMPOSE["volumes"].keys()
        assert configs <= COMPOSE["configs"].keys()
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
        assert set(service.get("depends_on", ())) <= services.keys()
        assert "build" in service or not service["image"].endswith(":latest")
        assert "build" in service or ":" in service["image"]
    assert all((DEPLOY / config["file"]).exists() for config in COMPOSE["configs"].values())
    build = services["gateway"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_the_composition_sets_what_the_server_reads() -> None:
    gateway = COMPOSE["services"]["gateway"]
    assert gateway["environment"].keys() <= VARIABLES
    assert all(
        port.startswith("127.0.0.1:") for service in COMPOSE["services"].values() for port in service.get("ports", ())
    )
    assert int(gateway["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout_s
    urls = gateway["environment"]["ABSTRACTCORE_NATS_URL"].split(",")
    assert [re.sub(r".*@(.*):\d+", r"\1", url) for url in urls] == ["nats-1", "nats-2", "nats-3"]


def test_the_nats_server_takes_its_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "nats.conf").read_text()
    for config, expected in ((text, 0), (text.replace("jetstream {", "jetstraem {"), 1)):
        path = tmp_path / "nats.conf"
        path.write_text(config)
        done = subprocess.run(
            [binary(), "-t", "-c", path], env={"NATS_TOKEN": "t"}, capture_output=True, timeout=180, check=False
        )
        assert done.returncode == expected, done.stderr
    members = set(re.findall(r"nats://(nats-\d):6222", text))
    assert members == {name for name in COMPOSE["services"] if re.fullmatch(r"nats-\d", name)}


def test_prometheus_asks_for_the_metrics_with_the_key() -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["metrics_path"] in {route.path for route in ROUTES if hasattr(route, "path")}
    assert job["static_configs"] == [{"targets": ["gateway:8000"]}]
    secret = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert COMPOSE["secrets"][secret] == {"environment": "ABSTRACTCORE_API_KEY"}


@pytest.mark.parametrize("command", [unit()["Service"]["ExecStart"], program()["command"]])
def test_the_units_run_a_command_line_that_the_server_takes(command: str) -> None:
    program, *argv = command.split()
    assert Path(program).name == "abstractcore-server"
    assert load(argv, {}).data_dir == Path("/var/lib/abstractcore")


def test_the_units_give_the_server_time_to_end_and_do_not_repeat_what_is_final() -> None:
    service, supervised = unit()["Service"], program()
    assert int(service["TimeoutStopSec"]) > Settings().drain_timeout_s
    assert int(supervised["stopwaitsecs"]) > Settings().drain_timeout_s
    assert set(service["RestartPreventExitStatus"].split()) | {"0"} == set(supervised["exitcodes"].split(","))
    assert (service["KillMode"], supervised["stopsignal"]) == ("mixed", "TERM")


def test_nginx_lets_pass_what_the_server_takes_and_holds_nothing_back() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    assert f"client_max_body_size {LARGEST_BODY // 2**20}m;" in text
    for line in ("proxy_buffering off;", "proxy_http_version 1.1;", "proxy_next_upstream off;", "gzip off;"):
        assert line in text
