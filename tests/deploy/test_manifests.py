"""Compose, Kubernetes, systemd and the image: consistency among them and with the service, which their schemas cannot
check."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from service.api.guides import anchor
from service.process.pools import connections_of_worker
from service.process.serving import STOP_SECONDS
from service.settings import Settings
from tests.deploy.installation import DEPLOY
from tests.serving import free_port, wait_until

COMPOSE_FILE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
COMPOSE: Final[dict[str, Any]] = COMPOSE_FILE["services"]
KUBERNETES: Final = DEPLOY / "kubernetes"
MANIFESTS: Final[list[dict[str, Any]]] = [
    document
    for path in sorted(KUBERNETES.glob("*.yaml"))
    if path.name not in ("kustomization.yaml", "secret.example.yaml")
    for document in yaml.safe_load_all(path.read_text())
]
UNITS: Final = sorted((DEPLOY / "systemd").iterdir())
DOCKERFILE: Final = (DEPLOY / "Dockerfile").read_text()
SETTINGS: Final = {name.upper() for name in Settings.model_fields}
SECRETS: Final = ("ADMIN_TOKEN", "CRON_SECRET", "TOKEN_SECRET", "PASSWORD")


def manifest_of_kind(kind: str) -> dict[str, Any]:
    """Returns the one manifest of a kind."""
    [manifest] = [manifest for manifest in MANIFESTS if manifest["kind"] == kind]
    return manifest


def pods() -> dict[str, dict[str, Any]]:
    """Returns the specification of the pods of each workload."""
    return {
        "serve": manifest_of_kind("Deployment")["spec"]["template"]["spec"],
        "migrate": manifest_of_kind("Job")["spec"]["template"]["spec"],
        "cleanup": manifest_of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    }


# Settings.


def test_compose_sets_existing_settings() -> None:
    """A misspelt setting would silently have its default."""
    for name in ("migrate", "migrate-partitions", "service", "check"):
        assert set(COMPOSE[name]["environment"]) <= SETTINGS, name


def test_compose_hands_on_every_setting() -> None:
    """A setting in .env that no container gets would do nothing, silently."""
    # Of the image, of the embedded server, and of `migrate` alone.
    elsewhere = {"HOST", "PORT", "DATA_DIR", "MIGRATION_DATABASE_URL"}
    assert set(COMPOSE["service"]["environment"]) == SETTINGS - elsewhere
    fixed = {"DATABASE_URL", "REDIS_URL"}
    for name in SETTINGS - elsewhere - fixed:
        assert COMPOSE["service"]["environment"][name].startswith(f"${{{name}:"), name


def compose_faults(file: dict[str, Any]) -> list[str]:
    """Lists the combinations that the schema of compose allows, and that Docker refuses or waits for in vain."""
    faults = []
    for name, service in file["services"].items():
        for kind in ("configs", "secrets"):
            for used in service.get(kind, []):
                source = used if isinstance(used, str) else used["source"]
                # They are copied into the container, which Docker refuses if that is read-only
                # (https://github.com/docker/compose/issues/12031). A file is mounted instead.
                if service.get("read_only") and {"content", "environment"} & set(file.get(kind, {})[source]):
                    faults.append(f"{name} is read-only, and {source} of its {kind} is no file")
        needed = service.get("depends_on", {})
        for other, how in needed.items() if isinstance(needed, dict) else ():
            awaited, condition = file["services"][other], how["condition"]
            has_check = "build" in awaited and "HEALTHCHECK" in DOCKERFILE if "healthcheck" not in awaited else True
            if condition == "service_healthy" and (not has_check or awaited.get("healthcheck", {}).get("disable")):
                faults.append(f"{name} waits for the health of {other}, which has no check")
            if condition == "service_completed_successfully" and awaited.get("restart") in ("always", "unless-stopped"):
                faults.append(f"{name} waits for the end of {other}, which is restarted for ever")
            if awaited.get("profiles") and not service.get("profiles"):
                faults.append(f"{name} needs {other}, which only a profile starts")
    return faults


def test_docker_accepts_the_compose_file() -> None:
    """These rules are in no schema."""
    assert compose_faults(COMPOSE_FILE) == []


@pytest.mark.parametrize(
    ("service", "top", "fault"),
    [
        ({"read_only": True, "configs": ["c"]}, {"configs": {"c": {"content": "x"}}}, "read-only"),
        ({"read_only": True, "secrets": [{"source": "s"}]}, {"secrets": {"s": {"environment": "X"}}}, "read-only"),
        ({"depends_on": {"other": {"condition": "service_healthy"}}}, {}, "no check"),
        ({"depends_on": {"other": {"condition": "service_completed_successfully"}}}, {}, "for ever"),
    ],
)
def test_a_broken_compose_file_is_found(service: dict[str, Any], top: dict[str, Any], fault: str) -> None:
    """Guards the rules above against passing for any file."""
    other = {"image": "x", "restart": "always"}
    [found] = compose_faults({"services": {"one": {"image": "x", **service}, "other": other}, **top})
    assert fault in found


@pytest.mark.parametrize("name", COMPOSE)
def test_containers_have_no_unneeded_privileges(name: str) -> None:
    """They drop all capabilities; all but the databases, whose image begins as root, write to memory only."""
    container = COMPOSE[name]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    is_database = name in ("postgres", "postgres-1", "proxy")
    assert container.get("read_only", False) != is_database
    assert ("cap_add" in container) == is_database


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is missing")
def test_the_redis_of_compose_asks_for_its_password(tmp_path: Path) -> None:
    """Its command runs as it stands, but for the port."""
    shell, option, script = COMPOSE["redis"]["command"]
    port = free_port()
    script = script.replace("$$", "$").replace("redis-server", f"redis-server --port {port}")
    environment = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": "quince"}
    with subprocess.Popen([shell, option, script], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port, password="quince", decode_responses=True) as client:
                wait_until(lambda: answers(client), "Redis to answer")
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
            with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
                client.ping()
            assert b"quince" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        finally:
            process.kill()


def answers(client: redis.Redis) -> bool:
    """Returns whether a Redis accepts connections."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_kubernetes_sets_existing_settings() -> None:
    """This covers the ConfigMap, the secrets and single variables."""
    secrets = list(yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text()))
    names = {*manifest_of_kind("ConfigMap")["data"], *(name for secret in secrets for name in secret["stringData"])}
    names |= {entry["name"] for pod in pods().values() for entry in pod["containers"][0].get("env", [])}
    assert names <= SETTINGS


def test_no_secret_has_a_value() -> None:
    """Committed files must contain no credentials."""
    for secret in yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text()):
        assert not any(secret["stringData"].values())
    assert "secret.example.yaml" not in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    for line in (DEPLOY / "example.env").read_text().splitlines():
        name, _, value = line.partition("=")
        if not line.startswith("#") and any(secret in name for secret in SECRETS):
            assert not value, name


def test_compose_has_no_default_for_a_secret() -> None:
    """Compose stops with an error for a secret that is not set."""
    text = (DEPLOY / "compose.yaml").read_text()
    for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text):
        if any(secret in name for secret in SECRETS):
            assert rest.startswith(":?"), name
    example = (DEPLOY / "example.env").read_text()
    for name in set(re.findall(r"\$\{(\w+)", text)):
        assert re.search(rf"^{name}=", example, re.MULTILINE), name


def test_pods_that_serve_cannot_change_the_schema() -> None:
    """Only the migration has the credentials of the migrating role."""
    assert {"secretRef": {"name": "holdfast-migration"}} not in pods()["serve"]["containers"][0]["envFrom"]
    assert "holdfast-migration" not in json.dumps([pods()["serve"], pods()["cleanup"]])
    assert "holdfast_migrator" not in json.dumps([COMPOSE["service"], COMPOSE["check"]])


def test_the_partitions_of_compose_can_be_migrated() -> None:
    """The list names the proxy, where PL/Proxy is installed, and then each node; all have the login of the service."""
    urls = COMPOSE["migrate-partitions"]["environment"]["MIGRATION_DATABASE_URL"]
    written = [re.sub(r"\$\{[^}]*\}", "x", url) for url in re.findall(r"postgresql://\S+ .*?@\S+", urls)]
    hosts = [urlsplit(url).hostname or "" for url in written]
    assert hosts == ["proxy", "postgres", "postgres-1"]
    for host in hosts:
        assert "./postgres/roles.sql:/docker-entrypoint-initdb.d/roles.sql:ro" in COMPOSE[host]["volumes"]
    assert "postgresql-15-plproxy" in (DEPLOY / "plproxy" / "Dockerfile").read_text()
    mounted = {volume.partition(":")[0] for host in hosts for volume in COMPOSE[host]["volumes"]}
    assert mounted - {"./postgres/roles.sql"} == set(COMPOSE_FILE["volumes"])


# Commands and shutdown.


def test_every_command_exists() -> None:
    """All workloads run the same image, with different commands."""
    from service.__main__ import main

    ours = ("migrate", "migrate-partitions", "service", "check")
    words = {COMPOSE[name].get("command", ["serve"])[0] for name in ours}
    words |= {pod["containers"][0]["args"][0] for pod in pods().values()}
    words |= set(re.findall(r"-m service (\w+)", "".join(path.read_text() for path in UNITS)))
    assert words <= set(main.commands)
    assert {"serve", "migrate", "cleanup", "check"} <= words
    assert {pod["containers"][0]["image"] for pod in pods().values()} == {"holdfast"}


def test_every_stop_timeout_is_long_enough() -> None:
    """It covers the pause before the shutdown, the requests in flight, and the connections. Later the service itself
    kills a worker, and logs it."""
    pod = pods()["serve"]
    _, pause = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert int(pause) >= 5
    assert pod["terminationGracePeriodSeconds"] > int(pause) + STOP_SECONDS
    assert int(COMPOSE["service"]["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd/holdfast.service").read_text(), re.MULTILINE)
    assert int(stop) > STOP_SECONDS


def test_an_outage_of_the_database_restarts_no_pod() -> None:
    """Only the readiness probe depends on the database."""
    container = pods()["serve"]["containers"][0]
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }


@pytest.mark.parametrize("role", pods())
def test_pods_have_no_unneeded_privileges(role: str) -> None:
    """This covers the rules that the namespace enforces, and a read-only file system."""
    pod = pods()[role]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in DOCKERFILE


def test_the_connections_of_all_pods_fit() -> None:
    """They are below PostgreSQL's default of 100, with one more pod during a rollout. The documents state twelve for
    each worker."""
    connections = connections_of_worker(Settings().max_batch)
    assert connections == 12
    workers = int(manifest_of_kind("ConfigMap")["data"]["WORKERS"])
    assert (manifest_of_kind("HorizontalPodAutoscaler")["spec"]["maxReplicas"] + 1) * workers * connections < 90


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
def test_the_kustomization_builds() -> None:
    """All selectors match the labels of the pods."""
    output = subprocess.run(["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True).stdout
    documents = {document["kind"]: document for document in yaml.safe_load_all(output)}
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        documents["Deployment"]["spec"]["selector"]["matchLabels"],
        documents["Service"]["spec"]["selector"],
        documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    for kind, document in documents.items():
        assert kind == "Namespace" or document["metadata"]["namespace"] == "holdfast"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_the_units_are_valid(tmp_path: Path) -> None:
    """systemd parses them; the program is replaced by an existing one."""
    for path in UNITS:
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/holdfast/.venv/bin/python", "/bin/true"))
    ended = subprocess.run(
        ["systemd-analyze", "verify", *sorted(tmp_path.iterdir())], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_links_between_the_documents_are_valid() -> None:
    """The file exists, and has the heading of the anchor."""
    documents = [*DEPLOY.glob("*.md"), DEPLOY.parent / "SECURITY.md"]
    for document in documents:
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            if target.startswith(("http", "mailto:")):
                continue
            name, _, place = target.partition("#")
            path = (document.parent / name).resolve() if name else document
            assert path.exists(), (document.name, target)
            if place:
                headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
                assert place in {anchor(heading) for heading in headings}, (document.name, target)


def test_the_tests_named_in_security_md_exist() -> None:
    """Each threat of the table names files that exist."""
    text = (DEPLOY.parent / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
    assert len(rows) > 15
    for row in rows:
        paths = re.findall(r"`((?:tests|deploy|\.ci)/[^`]+)`", row)
        assert paths, row
        for name in paths:
            assert (DEPLOY.parent / name).is_file(), name
