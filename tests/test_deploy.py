"""The files of `deploy/`, checked without a container engine or a cluster."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from middlewares.headers import ResponseFacts
from rig.service import make_settings
from server.components import (
    Components,
    add_component_metrics,
    add_connection_metrics,
    add_process_metrics,
)
from server.config import Settings
from server.observability.metrics import Metrics
from server.serving.connection_limits import Connections
from tests.calls import CALL_VARIABLES

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
VARIABLES = {name.upper() for name in Settings.__dataclass_fields__}
SYSTEMD = DEPLOY / "systemd"
SECRETS = {"VAPI_API_KEY", "JWT_SECRET", "REDIS_URL", "AUDIT_HASH_KEY", "PROOF_KEY"}


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / name).read_text("utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    words = [line.strip().split(" ", 1) for line in lines]
    return [(word, rest.strip()) for word, rest in words]


class TestDockerfile:
    steps = instructions("Dockerfile")

    def arguments(self, name: str) -> list[str]:
        return [argument for instruction, argument in self.steps if instruction == name]

    def test_builds_in_one_stage_and_runs_in_another(self) -> None:
        build, run = self.arguments("FROM")
        assert build.endswith(" AS build")
        assert " AS " not in run
        assert build.split()[0] == run
        assert "latest" not in run

    def test_runs_as_non_root(self) -> None:
        (user,) = self.arguments("USER")
        assert not re.match(r"(root|0)(:|$)", user)
        after = [name for name, _ in self.steps[self.steps.index(("USER", user)) :]]
        assert "USER" in after
        assert "RUN" not in after

    def test_copies_existing_files_that_are_not_ignored(self) -> None:
        kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
        for argument in self.arguments("COPY"):
            if not argument.startswith("--from="):
                for source in argument.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert source in kept

    def test_health_check_uses_healthz(self) -> None:
        (check,) = self.arguments("HEALTHCHECK")
        command = json.loads(check.partition("CMD ")[2])
        assert command[:2] == ["python", "-c"]
        compile(command[2], "HEALTHCHECK", "exec")
        assert "/healthz" in command[2]

    def test_gunicorn_is_pid_1(self) -> None:
        (command,) = self.arguments("CMD")
        worker = "aiohttp.GunicornUVLoopWebWorker"
        assert json.loads(command) == ["gunicorn", "server.app:app_factory", "-k", worker]

    def test_contains_no_secret(self) -> None:
        for argument in self.arguments("ENV") + self.arguments("RUN"):
            assert not SECRETS & set(re.findall(r"[A-Z_]+", argument))


KUBERNETES = DEPLOY / "kubernetes"
BASE: Any = [
    document
    for file in sorted((KUBERNETES / "base").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text("utf-8"))
    if document["kind"] != "Kustomization"
]
DOCUMENTS: dict[str, Any] = {document["kind"]: document for document in BASE}
POD: Any = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER: Any = POD["containers"][0]
OVERLAYS = ("north", "south")


def settings(folder: str) -> dict[str, str]:
    """Return the settings of the base or of an overlay."""
    lines = (KUBERNETES / folder / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


SETTINGS = settings("base")


@cache
def rendered(overlay: str) -> dict[str, Any]:
    """Return the documents that `kubectl apply -k` would apply."""
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    made = subprocess.run(command, capture_output=True, check=True).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(made)}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl 1.21 or later")
@pytest.mark.parametrize("overlay", OVERLAYS)
class TestOverlays:
    def test_validates_against_the_api_schemas(self, overlay: str) -> None:
        validate = pytest.importorskip("kubernetes_validate", reason="pip: kubernetes-validate")
        for kind, document in rendered(overlay).items():
            if kind not in {"HTTPRoute", "ServiceMonitor"}:  # their schemas are of other projects
                validate.validate(document, "1.33", strict=True)

    def test_each_clinic_has_a_namespace_and_settings(self, overlay: str) -> None:
        documents = {**rendered(overlay)}
        place = f"vapi-sessions-{overlay}"
        assert documents.pop("Namespace")["metadata"]["name"] == place
        assert {each["metadata"]["namespace"] for each in documents.values()} == {place}
        given = documents["ConfigMap"]["data"]
        assert given == {**SETTINGS, **settings(f"overlays/{overlay}")}
        assert not SECRETS & given.keys()

    def test_routes_expose_public_paths_only(self, overlay: str) -> None:
        documents = rendered(overlay)
        if "HTTPRoute" in documents:
            spec = documents["HTTPRoute"]["spec"]
            hosts, (rule,) = spec["hostnames"], spec["rules"]
            paths = [match["path"]["value"] for match in rule["matches"]]
        else:
            (rule,) = documents["Ingress"]["spec"]["rules"]
            hosts, paths = [rule["host"]], [each["path"] for each in rule["http"]["paths"]]
        assert hosts == [f"{overlay}.clinic.example"]
        assert paths == ["/api/", "/.well-known/jwks.json"]


class TestKubernetes:
    def test_probes(self) -> None:
        asked = {name: CONTAINER[name]["httpGet"]["path"] for name in CONTAINER if "Probe" in name}
        assert asked == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }

    def test_contains_no_secret(self) -> None:
        assert "Secret" not in DOCUMENTS
        given = {*SETTINGS, *(item["name"] for item in CONTAINER["env"])}
        assert not SECRETS & given

    def test_secrets_are_mounted_as_files(self) -> None:
        (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "secrets"]
        files = {Path(value) for name, value in SETTINGS.items() if name.endswith("_FILE")}
        assert mount["readOnly"]
        assert {file.parent for file in files} == {Path(mount["mountPath"])}
        assert {f"{file.name}_FILE" for file in files} <= set(SETTINGS)
        for overlay in OVERLAYS:
            text = (KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text("utf-8")
            assert all(f"--from-file={file.name}=" in text for file in files)

    def test_memory_limit_fits_the_connections(self) -> None:
        connections = int(SETTINGS["MAX_CONNECTIONS"])
        limit = CONTAINER["resources"]["limits"]["memory"]
        assert 90 + connections * 100 / 1024 < int(limit.removesuffix("Mi"))

    def test_network_policy_covers_the_pods(self) -> None:
        policy = DOCUMENTS["NetworkPolicy"]["spec"]
        assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "vapi-sessions"}
        assert policy["policyTypes"] == ["Ingress", "Egress"]

    def test_sets_known_variables(self) -> None:
        given = {*SETTINGS, *(item["name"] for item in CONTAINER["env"])}
        assert {name.removesuffix("_FILE") for name in given} <= VARIABLES | {"WEB_CONCURRENCY"}

    def test_termination_grace(self) -> None:
        assert "lifecycle" not in CONTAINER  # the delay, not a preStop hook
        wait = float(SETTINGS["SHUTDOWN_DELAY_SECONDS"]) + float(SETTINGS["SHUTDOWN_GRACE_SECONDS"])
        assert POD["terminationGracePeriodSeconds"] > wait

    def test_egress_excludes_private_networks(self) -> None:
        *_, public = DOCUMENTS["NetworkPolicy"]["spec"]["egress"]
        assert [port["port"] for port in public["ports"]] == [443]
        excluded = {network for each in public["to"] for network in each["ipBlock"]["except"]}
        assert {"10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "fc00::/7"} <= excluded

    def test_security_context(self) -> None:
        assert POD["securityContext"]["runAsNonRoot"] is True
        assert POD["automountServiceAccountToken"] is False
        context = CONTAINER["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}

    def test_resources(self) -> None:
        assert CONTAINER["resources"]["requests"].keys() == {
            *("cpu", "memory"),
            "ephemeral-storage",
        }
        assert CONTAINER["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}

    def test_selectors_match(self) -> None:
        labels = {"app.kubernetes.io/name": "vapi-sessions"}
        deployment = DOCUMENTS["Deployment"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert deployment["spec"]["template"]["metadata"]["labels"] == labels
        assert DOCUMENTS["Service"]["spec"]["selector"] == labels
        assert DOCUMENTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels

    def test_disruption_budget(self) -> None:
        scaled = DOCUMENTS["HorizontalPodAutoscaler"]["spec"]
        kept = DOCUMENTS["PodDisruptionBudget"]["spec"]["minAvailable"]
        assert scaled["minReplicas"] > kept >= 1
        assert scaled["scaleTargetRef"]["name"] == DOCUMENTS["Deployment"]["metadata"]["name"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="Debian: apt install systemd")
@pytest.mark.parametrize("name", ["vapi-sessions.service", "vapi-sessions@.service"])
class TestSystemdUnit:
    def analyze(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["systemd-analyze", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_verifies(self, name: str, tmp_path: Path) -> None:
        unit = tmp_path / name.replace("@", "@north")
        text = (SYSTEMD / name).read_text("utf-8")
        # systemd-analyze requires an existing program.
        unit.write_text(re.sub(r"(?<=ExecStart=)\S+", sys.executable, text), "utf-8")
        checked = self.analyze("verify", "--man=no", str(unit))
        assert (checked.returncode, checked.stderr) == (0, "")

    def test_security_score(self, name: str) -> None:
        unit = str(SYSTEMD / name)
        checked = self.analyze("security", "--offline=yes", "--threshold=20", unit)
        assert checked.returncode == 0, checked.stdout


def directives(name: str) -> set[str]:
    """Return the directives of a unit, without comments."""
    lines = (SYSTEMD / name).read_text("utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_units_differ_only_in_what_is_the_clinic_s() -> None:
    one, template = directives("vapi-sessions.service"), directives("vapi-sessions@.service")
    own = {"Description", "User", "WorkingDirectory", "LoadCredential", "MemoryMax", "TasksMax"}
    changed = {line.partition("=")[0] for line in one ^ template}
    assert changed == {*own, "Environment"}
    assert all(
        "%i" in line
        for line in template - one
        if line.startswith(tuple(own - {"MemoryMax", "TasksMax"}))
    )


def pins(text: str) -> dict[str, str]:
    """Return the versions that a file of requirements or constraints names."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)
    return {re.sub(r"[._]", "-", name).lower(): version for name, version in found}


class TestSupplyChain:
    locks = tuple(ROOT / f"requirements{suffix}.txt" for suffix in ("", "-docs", "-build"))

    def test_each_locked_package_has_hashes_and_the_version_of_the_constraints(self) -> None:
        constraints = pins((ROOT / "constraints.txt").read_text("utf-8"))
        for lock in self.locks:
            text = lock.read_text("utf-8")
            for entry in re.split(r"\n(?=\S)", text.strip()):
                assert "--hash=sha256:" in entry, entry
            if lock.stem != "requirements-build":
                assert pins(text).items() <= constraints.items()

    def test_build_system_is_the_locked_one(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        (required,) = project["build-system"]["requires"]
        assert pins(required) == pins(self.locks[2].read_text("utf-8"))

    def test_what_serving_requires_is_locked(self) -> None:
        required = metadata.requires("vapi-sessions") or []
        serving = {
            re.sub(r"[._]", "-", re.split(r"[^\w.-]", each)[0]).lower()
            for each in required
            if "extra ==" not in each
        }
        assert serving
        assert serving <= pins(self.locks[0].read_text("utf-8")).keys()

    def test_image_and_install_require_hashes(self) -> None:
        for name in ("deploy/Dockerfile", "Makefile"):
            assert "--require-hashes" in (ROOT / name).read_text("utf-8")

    @pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
    def test_actions_are_pinned_by_commit(self, name: str) -> None:
        text = (ROOT / ".github" / "workflows" / name).read_text("utf-8")
        used = re.findall(r"uses: (.*)$", text, re.MULTILINE)
        assert used
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", each) for each in used)
        yaml.safe_load(text)


EXPRESSION = re.compile(r"\bvapi_sessions_\w+|\bprocess_\w+")


def exported() -> set[str]:
    """Return the names of the metrics."""
    settings = make_settings(
        JWT_SECRET="",
        JWT_JWKS_URL="https://issuer.test/jwks",
        JWT_ISSUER="https://issuer.test/",
        REDIS_URL="redis://127.0.0.1",
        CALL_MONITOR="report",
        **CALL_VARIABLES,
    )
    metrics = Metrics()
    add_component_metrics(metrics, Components(settings))
    add_connection_metrics(metrics, Connections())
    add_process_metrics(metrics, web.Application())
    metrics.observe(ResponseFacts("", 200, None, None, 0.1))
    return set(re.findall(r"^(\w+)", metrics.render().decode(), re.MULTILINE))


def test_each_metric_is_documented() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(vapi_sessions_\w+)", manual, re.MULTILINE))
    own = (name for name in exported() if name.startswith("vapi_") and "_created" not in name)
    assert documented == {re.sub(r"_(bucket|sum|count)$", "", name) for name in own}


ALERTS: Any = yaml.safe_load((DEPLOY / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]


class TestAlerts:
    def test_alerts_use_existing_metrics(self) -> None:
        used = {name for rule in ALERTS for name in EXPRESSION.findall(rule["expr"])}
        assert len(used) >= 6
        assert used <= exported()

    def test_each_alert_has_a_runbook_entry(self) -> None:
        manual = (ROOT / "docs" / "operations.md").read_text("utf-8")
        headings = {name.lower() for name in re.findall(r"^#+ (\w+)$", manual, re.MULTILINE)}
        for rule in ALERTS:
            assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
            assert rule["alert"].lower() in headings

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian: apt install prometheus")
    @pytest.mark.parametrize("what", [("check", "alerts.yaml"), ("test", "alerts_test.yaml")])
    def test_promtool(self, what: tuple[str, str]) -> None:
        command = ["promtool", what[0], "rules", str(DEPLOY / what[1])]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


class TestDashboard:
    panels: Any = json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))["panels"]

    def test_dashboard_shows_each_metric(self) -> None:
        asked = [target["expr"] for panel in self.panels for target in panel["targets"]]
        used = {name for expression in asked for name in EXPRESSION.findall(expression)}
        exist = {name for name in exported() if not name.endswith(("_created", "_sum", "_count"))}
        own = {name for name in exist if name.startswith("vapi_sessions_")}
        assert used <= exist
        assert own - used == {"vapi_sessions_build_info"}

    def test_dashboard_panels_do_not_overlap(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in self.panels:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not taken & cells
            assert max(x for x, _ in cells) < 24
            taken |= cells

    @pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian: apt install prometheus")
    def test_dashboard_queries_parse(self, tmp_path: Path) -> None:
        asked = [target["expr"] for panel in self.panels for target in panel["targets"]]
        rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(asked)]
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
        command = ["promtool", "check", "rules", str(file)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
