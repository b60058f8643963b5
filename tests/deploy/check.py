"""What must hold for the files in deploy/.

Each check is a function that yields its findings, sentences for people; no findings, no problem. They look at what
`kubectl kustomize` makes of the manifests, which is what a cluster gets to see.
"""

import functools
import json
import os
import re
import shlex
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from kubernetes_validate import SchemaNotFoundError, ValidationError, utils

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ["CONVGROUPS_BIN"]).resolve()
# The action `sleep` before a pod stops is there since this version.
OLDEST_KUBERNETES = (1, 30)
# What a database allows where nobody has changed it, less what it keeps for its superusers.
DATABASE_CONNECTIONS = 100 - 3
# What gcr.io/distroless/cc has of what a program may link to.
IMAGE_LIBRARIES = re.compile(r"libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|libstdc\+\+\.so\.6|ld-linux.*\.so\.\d")


@dataclass
class Deployment:
    """The files, and what was made of them."""

    folder: Path
    # Of Kubernetes, whose schemas are asked.
    versions: list[str]
    objects: list[dict] = field(default_factory=list)
    # Empty where the program refuses them.
    settings: dict = field(default_factory=dict)

    def of_kind(self, kind):
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind):
        found = self.of_kind(kind)
        if len(found) != 1:
            raise Finding(f"there are {len(found)} objects of kind {kind}, not one")
        return found[0]

    def with_pods(self):
        return [item for item in self.objects if item["kind"] in ("Deployment", "Job")]

    def server(self):
        """The Deployment's pod and its only container."""
        pod = self.one("Deployment")["spec"]["template"]["spec"]
        return pod, pod["containers"][0]


class Finding(Exception):
    """A finding that ends a check."""


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def findings(folder, versions):
    """All findings about a copy of deploy/, with the schemas of these versions of Kubernetes."""
    deployment = Deployment(folder, versions)
    found = []
    for step in (render, read_settings, *CHECKS):
        try:
            found.extend(step(deployment))
        except Finding as finding:
            found.append(str(finding))
        except (KeyError, IndexError, TypeError) as error:
            found.append(f"{step.__name__}: what is looked at is not there: {error!r}")
    return found


def render(deployment):
    """What a cluster is given."""
    for kustomization in kustomizations(deployment.folder):
        rendered = subprocess.run(["kubectl", "kustomize", kustomization.parent], capture_output=True, text=True)
        if rendered.returncode != 0:
            yield f"kustomize: {rendered.stderr.strip()}"
        deployment.objects.extend(yaml.safe_load_all(rendered.stdout))


def read_settings(deployment):
    """The settings of the Deployment, all of them, as the program understands them."""
    ended = settings_of(deployment, *deployment.server())
    if ended.returncode != 0:
        yield f"the program refuses the settings: {ended.stderr.strip()}"
    deployment.settings = tomllib.loads(ended.stdout)


def kustomizations(folder):
    return sorted((folder / "kubernetes").rglob("kustomization.yaml"))


# What a container of these manifests gets to see.


def environment(deployment, pod, container):
    """The variables that Kubernetes sets, with a value that fits where it comes from a Secret."""
    variables = {"PATH": os.environ["PATH"], "KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}
    if pod.get("enableServiceLinks", True):
        for service in deployment.of_kind("Service"):
            prefix = service["metadata"]["name"].upper().replace("-", "_")
            port = service["spec"]["ports"][0]["port"]
            variables[f"{prefix}_SERVICE_HOST"] = "192.0.2.2"
            variables[f"{prefix}_SERVICE_PORT"] = str(port)
            variables[f"{prefix}_PORT"] = f"tcp://192.0.2.2:{port}"
    for variable in container.get("env", []):
        variables[variable["name"]] = variable.get("value", "postgres://convgroups@db.example.com/convgroups")
    return variables


def mounted_files(deployment, pod, container):
    """Path in the container: the text, of a ConfigMap, or nothing, of a Secret."""
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    files = {}
    for mount in container.get("volumeMounts", []):
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            data = config_map(deployment, volume["configMap"]["name"])
            files.update({f"{mount['mountPath']}/{name}": text for name, text in data.items()})
        for item in volume.get("secret", {}).get("items", []):
            files[f"{mount['mountPath']}/{item['path']}"] = None
    return files


def config_map(deployment, name):
    for item in deployment.of_kind("ConfigMap"):
        if item["metadata"]["name"] == name:
            return item["data"]
    raise Finding(f"there is no ConfigMap {name}")


def settings_of(deployment, pod, container):
    """`convgroups config` with what the container has."""
    with tempfile.TemporaryDirectory() as folder:
        command = [PROGRAM, "config"]
        path = settings_path(container)
        if path:
            text = mounted_files(deployment, pod, container).get(path)
            if text is None:
                raise Finding(f"--config {path}: no such file is mounted")
            file = Path(folder) / "convgroups.toml"
            file.write_text(text)
            command += ["--config", file]
        variables = environment(deployment, pod, container)
        return subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True)


def settings_path(container):
    arguments = container.get("args", [])
    return arguments[arguments.index("--config") + 1] if "--config" in arguments else None


# Checks.


def schema_versions():
    versions = [tuple(int(part) for part in version.split(".")[:2]) for version in utils.all_versions()]
    return [f"{major}.{minor}" for major, minor in versions if (major, minor) >= OLDEST_KUBERNETES]


# Reading them takes longer than applying them.
utils.schema_contents = functools.lru_cache(None)(utils.schema_contents)


@check
def schemas(deployment):
    """Kubernetes' own schemas, of each version, with unknown fields as errors."""
    for item in deployment.objects:
        name = f"{item['kind']} {item['metadata']['name']}"
        for version in deployment.versions:
            try:
                utils.validate(item, version, strict=True)
            except ValidationError as error:
                place = ".".join(str(part) for part in error.absolute_path)
                yield f"{name}, Kubernetes {version}: {place}: {error.message[:300]}"
            except SchemaNotFoundError as error:
                yield f"{name}: {error.message}"


@check
def every_file_is_listed(deployment):
    for kustomization in kustomizations(deployment.folder):
        content = yaml.safe_load(kustomization.read_text())
        listed = {kustomization.name, *content.get("resources", [])}
        for generator in content.get("configMapGenerator", []):
            listed.update(generator.get("files", []))
        for file in kustomization.parent.iterdir():
            if file.is_file() and file.name not in listed:
                yield f"{kustomization} does not list {file.name}"


def matches(selector, labels):
    return selector.items() <= labels.items()


@check
def selectors(deployment):
    server = deployment.one("Deployment")
    labels = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"] for item in deployment.with_pods()
    }
    name = server["metadata"]["name"]
    template = server["spec"]["template"]["spec"]
    of_the_server = {
        "the Deployment": server["spec"]["selector"]["matchLabels"],
        "the Service": deployment.one("Service")["spec"]["selector"],
        "the PodDisruptionBudget": deployment.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    }
    for constraint in template["topologySpreadConstraints"]:
        of_the_server[f"the spread over {constraint['topologyKey']}"] = constraint["labelSelector"]["matchLabels"]
    for who, selector in of_the_server.items():
        selected = [pods for pods, has in labels.items() if matches(selector, has)]
        if selected != [name]:
            yield f"{who} selects the pods of {selected}, not those of {name} alone"
    for pods, has in labels.items():
        if not matches(deployment.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], has):
            yield f"the NetworkPolicy does not select the pods of {pods}"
    target = deployment.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    if target != {"apiVersion": server["apiVersion"], "kind": "Deployment", "name": name}:
        yield f"the HorizontalPodAutoscaler scales {target}"
    if "replicas" in server["spec"]:
        yield "the Deployment has a number of replicas beside that of the HorizontalPodAutoscaler"
    accounts = {item["metadata"]["name"] for item in deployment.of_kind("ServiceAccount")}
    for item in deployment.with_pods():
        account = item["spec"]["template"]["spec"].get("serviceAccountName")
        if account not in accounts:
            yield f"{item['kind']} {item['metadata']['name']}: there is no ServiceAccount {account}"
    namespace = deployment.one("Namespace")["metadata"]["name"]
    for item in deployment.objects:
        if item["kind"] != "Namespace" and item["metadata"].get("namespace") != namespace:
            yield f"{item['kind']} {item['metadata']['name']} is not in the namespace {namespace}"


@check
def ports(deployment):
    _, container = deployment.server()
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    host, listens = deployment.settings.get("server", {}).get("listen", ":0").rsplit(":", 1)
    if deployment.settings and list(named.values()) != [int(listens)]:
        yield f"the container has the ports {named}, and the server listens on {listens}"
    if host.startswith("127.") or host in ("localhost", "[::1]"):
        yield f"the server listens on {host}, which cannot be reached from outside the pod"
    for port in deployment.one("Service")["spec"]["ports"]:
        if port["targetPort"] not in named:
            yield f"the Service's target {port['targetPort']} is no port of the container"
    for rule in deployment.one("NetworkPolicy")["spec"]["ingress"]:
        for port in rule["ports"]:
            if port["port"] not in named:
                yield f"the NetworkPolicy lets in to {port['port']}, which is no port of the container"
    exposed = re.findall(r"^EXPOSE (\d+)$", containerfile(deployment), re.MULTILINE)
    if [int(port) for port in exposed] != list(named.values()):
        yield f"the Containerfile exposes {exposed}, the container has {named}"


@check
def probes(deployment):
    _, container = deployment.server()
    documented = set(re.findall(r"`GET (/\w+)`", (REPOSITORY / "docs/http.md").read_text()))
    named = {port["name"] for port in container["ports"]}
    scheme = "HTTPS" if deployment.settings.get("server", {}).get("tls_certificate") else "HTTP"
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        get = container[probe]["httpGet"]
        if get["path"] != path or get["path"] not in documented:
            yield f"{probe} asks for {get['path']}, not for {path} of docs/http.md"
        if get["port"] not in named:
            yield f"{probe} asks port {get['port']}, which the container does not have"
        if deployment.settings and get.get("scheme", "HTTP") != scheme:
            yield f"{probe} speaks {get.get('scheme', 'HTTP')}, and the server {scheme}"


def documented_secrets():
    """Secret: its keys, by the commands of the README that make them."""
    text = (REPOSITORY / "deploy/README.md").read_text().replace("\\\n", " ")
    secrets = {}
    for line in text.splitlines():
        words = shlex.split(line) if line.lstrip().startswith("kubectl ") and " create secret " in line else []
        if not words:
            continue
        kind, name = words[words.index("secret") + 1 :][:2]
        keys = {word.split("=")[1] for word in words if word.startswith(("--from-literal=", "--from-file="))}
        secrets[name] = {"tls.crt", "tls.key"} if kind == "tls" else keys
    return secrets


@check
def secrets(deployment):
    documented = documented_secrets()
    used = {}
    for item in deployment.with_pods():
        pod = item["spec"]["template"]["spec"]
        for volume in pod.get("volumes", []):
            if secret := volume.get("secret"):
                used.setdefault(secret["secretName"], set()).update(entry["key"] for entry in secret["items"])
        for container in pod["containers"]:
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    used.setdefault(reference["name"], set()).add(reference["key"])
    for name in sorted(used.keys() | documented.keys()):
        uses, has = used.get(name, set()), documented.get(name, set())
        if uses != has:
            yield f"Secret {name}: {sorted(uses)} are used, and deploy/README.md makes {sorted(has)}"
    if deployment.of_kind("Secret"):
        yield "there is a Secret among the files"


@check
def mounts(deployment):
    """Every volume is mounted, and every file that a setting or a variable names."""
    for item in deployment.with_pods():
        pod = item["spec"]["template"]["spec"]
        name = f"{item['kind']} {item['metadata']['name']}"
        container = pod["containers"][0]
        if item["kind"] == "Deployment" and not deployment.settings:
            # Found already: the program refuses the settings. Which files they name is not known then.
            continue
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        if mounted != volumes:
            yield f"{name} has the volumes {sorted(volumes)} and mounts {sorted(mounted)}"
            continue
        files = mounted_files(deployment, pod, container)
        values = [variable.get("value", "") for variable in container.get("env", [])] + container.get("args", [])
        if item["kind"] == "Deployment":
            values += [
                value for table in deployment.settings.values() if isinstance(table, dict) for value in table.values()
            ]
        needed = {value for value in values if isinstance(value, str) and value.startswith("/")}
        for path in sorted(needed ^ files.keys()):
            yield f"{name}: {path} is {'needed, and not mounted' if path in needed else 'mounted, and not needed'}"


@check
def arguments(deployment):
    """The program knows the commands, flags and variables."""
    for item in deployment.with_pods():
        pod = item["spec"]["template"]["spec"]
        container = pod["containers"][0]
        name = f"{item['kind']} {item['metadata']['name']}"
        helped = subprocess.run([PROGRAM, *container["args"], "--help"], capture_output=True, text=True)
        if helped.returncode != 0:
            yield f"{name}: {helped.stderr.splitlines()[0]}"
        if item["kind"] == "Job":
            ended = settings_of(deployment, pod, container)
            if ended.returncode != 0:
                yield f"{name}: {ended.stderr.strip()}"


UNITS = {"": 1, "Mi": 1 << 20, "Gi": 1 << 30}


@check
def numbers(deployment):
    """Times, memory and connections fit the settings."""
    pod, container = deployment.server()
    settings = deployment.settings
    if not settings:
        return
    needed = (
        container["lifecycle"]["preStop"]["sleep"]["seconds"] + settings["server"]["shutdown_timeout_ms"] / 1000 + 5
    )
    if pod["terminationGracePeriodSeconds"] < needed:
        yield f"terminationGracePeriodSeconds is {pod['terminationGracePeriodSeconds']}, and {needed} may be needed"
    number, unit = re.fullmatch(r"(\d+)(\D*)", container["resources"]["limits"]["memory"]).groups()
    calls, server, sandbox = settings["calls"], settings["server"], settings["sandbox"]
    most = (
        calls["max_concurrent"] * (sandbox["max_memory_bytes"] + sandbox["max_crossing_bytes"])
        + calls["max_waiting"] * server["max_body_bytes"]
        + server["max_connections"] * (32 << 10)
        + (30 << 20)
    )
    if int(number) * UNITS[unit] < most:
        yield f"the limit of memory is {number}{unit}, and the settings allow {most >> 20} MiB"
    scaler = deployment.one("HorizontalPodAutoscaler")["spec"]
    surge = deployment.one("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    connections = (scaler["maxReplicas"] + surge) * (settings["postgres"]["max_connections"] + 1)
    if connections > DATABASE_CONNECTIONS:
        yield f"all pods together may have {connections} connections to the database"
    if scaler["minReplicas"] < 2:
        yield "the HorizontalPodAutoscaler may leave a single pod"


@check
def security(deployment):
    user = re.findall(r"^USER (\d+):(\d+)$", containerfile(deployment), re.MULTILINE)
    if len(user) != 1 or user[0][0] == "0":
        yield f"the Containerfile does not say once, in numbers, who runs the program: {user}"
        return
    uid, gid = (int(part) for part in user[0])
    of_pods = {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": gid,
        "fsGroup": gid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    of_containers = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for item in deployment.with_pods():
        pod = item["spec"]["template"]["spec"]
        name = f"{item['kind']} {item['metadata']['name']}"
        if pod["securityContext"] != of_pods:
            yield f"{name}: the pods' securityContext is {pod['securityContext']}"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: the pods have a token for Kubernetes"
        if any(pod.get(share) for share in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: the pods share a namespace with their node"
        if len(pod["containers"]) != 1 or pod.get("initContainers"):
            yield f"{name}: there are other containers in the pod, which nothing here looks at"
        if pod["containers"][0]["securityContext"] != of_containers:
            yield f"{name}: the container's securityContext is {pod['containers'][0]['securityContext']}"
        for volume in pod["volumes"]:
            if "secret" in volume and volume["secret"].get("defaultMode") != 0o440:
                yield f"{name}: the files of {volume['name']} can be read by others than their group"
            if not {"secret", "configMap"} & volume.keys():
                yield f"{name}: the volume {volume['name']} is neither a Secret nor a ConfigMap"
    if set(deployment.one("NetworkPolicy")["spec"]["policyTypes"]) != {"Ingress", "Egress"}:
        yield "the NetworkPolicy does not close both directions"


# The unit for one machine.

# In tenths, of 0 for closed to 100.
MAX_EXPOSURE = 25


@functools.cache
def default_settings():
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run([PROGRAM, "config"], env={}, cwd=folder, capture_output=True, text=True, check=True)
    return tomllib.loads(ended.stdout)


def unit_text(deployment):
    return (deployment.folder / "systemd/convgroups.service").read_text()


def unit_values(deployment, name):
    return re.findall(rf"^{name}=(.*)$", unit_text(deployment), re.MULTILINE)


@check
def unit(deployment):
    """The unit by systemd's own checks, with the program where it is built instead of where it is installed."""
    text = unit_text(deployment)
    command = unit_values(deployment, "ExecStart")
    if len(command) != 1 or not command[0].startswith("/usr/local/bin/convgroups "):
        yield f"the unit starts {command}"
        return
    words = shlex.split(command[0])
    helped = subprocess.run([PROGRAM, *words[1:], "--help"], capture_output=True, text=True)
    if helped.returncode != 0:
        yield f"the unit's command: {helped.stderr.splitlines()[0]}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "convgroups.service"
        file.write_text(text.replace(words[0], str(PROGRAM)))
        verified = analyze("verify", "--man=no", file)
        # Units of this system are not what is looked at.
        said = [line for line in verified.stderr.splitlines() if "convgroups" in line]
        if said or verified.returncode != 0:
            yield f"systemd-analyze verify: {' '.join(said) or verified.stderr.strip()}"
        rated = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", file)
        if rated.returncode != 0:
            yield f"systemd-analyze security: {(rated.stdout + rated.stderr).strip().splitlines()[-1]}"
        points = analyze("security", "--offline=true", "--json=short", file)
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for point in json.loads(points.stdout):
        setting = re.match(r"\w+", point["name"])[0]
        if point["exposure"] and not re.search(rf"^# {setting} ", comments, re.MULTILINE):
            yield f"the unit has no reason why {point['name']} stays open"


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)


@check
def unit_numbers(deployment):
    """Time and files fit the settings."""
    server = default_settings()["server"]
    (seconds,), (files,) = unit_values(deployment, "TimeoutStopSec"), unit_values(deployment, "LimitNOFILE")
    needed = server["shutdown_timeout_ms"] / 1000 + 5
    if int(seconds) < needed:
        yield f"TimeoutStopSec is {seconds}, and {needed} may be needed"
    if int(files) < 2 * server["max_connections"]:
        yield f"LimitNOFILE is {files}, which is little for {server['max_connections']} connections"


@check
def unit_companions(deployment):
    """What goes with the unit has the same user, and is in the documentation."""
    folder = deployment.folder / "systemd"
    users = re.findall(r"^u (\S+)", (folder / "convgroups.sysusers").read_text(), re.MULTILINE)
    for setting in ("User", "Group"):
        if unit_values(deployment, setting) != users:
            yield f"the unit has {setting}={unit_values(deployment, setting)}, and the users are {users}"
    for line in (folder / "convgroups.tmpfiles").read_text().splitlines():
        if not line.startswith("#") and line.split()[3:5] != ["root", *users]:
            yield f"convgroups.tmpfiles does not give to root and {users}: {line}"
    documentation = (REPOSITORY / "docs/production.md").read_text()
    for file in folder.iterdir():
        if file.name not in documentation:
            yield f"docs/production.md does not name {file.name}"
    log = [f"append:{path}" for path in re.findall(r"^(/\S+) \{", (folder / "convgroups.logrotate").read_text(), re.MULTILINE)]
    to = re.findall(r"^StandardError=(.*)$", (folder / "log-to-file.conf").read_text(), re.MULTILINE)
    if to != log:
        yield f"what is rotated is {log}, and the server log goes to {to}"


def containerfile(deployment):
    return (deployment.folder / "Containerfile").read_text()


@check
def image(deployment):
    """The container file by its linter, and what a linter cannot know."""
    linted = subprocess.run(
        ["hadolint", "--no-color", "--failure-threshold", "style", deployment.folder / "Containerfile"],
        capture_output=True,
        text=True,
    )
    if linted.returncode != 0:
        yield f"hadolint: {(linted.stdout + linted.stderr).strip()}"
    text = containerfile(deployment)
    final = text[text.rindex("\nFROM ") :]
    if re.search(r"^RUN ", final, re.MULTILINE):
        yield "the image is made with commands of its own, which it should not have"
    if not re.search(r'^ENTRYPOINT \["/usr/local/bin/convgroups"\]$', final, re.MULTILINE):
        yield "the image does not start the program itself"
    toolchain = tomllib.loads((REPOSITORY / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    if f"\nFROM rust:{toolchain}-slim-bookworm AS build\n" not in text:
        yield f"the image is not built with Rust {toolchain}"
    if "\nFROM gcr.io/distroless/cc-debian12:nonroot\n" not in final:
        yield "the image is not based on distroless/cc of the builder's Debian"
    workspace = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]
    version = workspace["package"]["version"]
    if f'org.opencontainers.image.version="{version}"' not in text:
        yield f"the image's label does not say version {version}"
    context = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for member in {path.split("/")[0] for path in workspace["members"]}:
        if f"!{member}" not in context:
            yield f".dockerignore keeps {member} out of the image's build, which is in the workspace"
    for item in deployment.with_pods():
        name = item["spec"]["template"]["spec"]["containers"][0]["image"]
        if name != f"registry.example.com/convgroups:{version}":
            yield f"{item['kind']} {item['metadata']['name']} runs the image {name}, not of version {version}"


def libraries(program):
    """What a program links to and the image does not have."""
    dynamic = subprocess.run(["readelf", "--dynamic", "--wide", program], capture_output=True, text=True)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic.stdout)
    if not needed:
        yield f"readelf names no library at all: {dynamic.stderr.strip()}"
    for name in needed:
        if not IMAGE_LIBRARIES.fullmatch(name):
            yield f"the program links to {name}, which distroless/cc does not have"
