"""Checks deploy/, runs the server with its settings, and proves that each check can fail."""

import contextlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import check
import installed
import machine

# Mistakes that somebody could make: in a file of deploy/, something is replaced by something else, and that must be found.
MISTAKES = {
    "kubernetes/deployment.yaml": [
        ("readOnlyRootFilesystem:", "readOnlyRootFileSystem:", "'readOnlyRootFileSystem' was unexpected"),
        ("periodSeconds: 10", "periodSeconds: ten", "livenessProbe.periodSeconds"),
        ("apiVersion: apps/v1", "apiVersion: apps/v1beta1", "Couldn't find schema"),
        (
            "  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: convgroups",
            "  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: chat",
            "the Deployment selects the pods of []",
        ),
        ("  strategy:", "  replicas: 3\n  strategy:", "has a number of replicas"),
        ("- key: keys", "- key: key", "Secret convgroups-usersig"),
        ("key: url", "key: uri", "Secret convgroups-database"),
        ("secretName: convgroups-tls", "secretName: convgroups-cert", "Secret convgroups-cert"),
        (
            "mountPath: /etc/convgroups/tls",
            "mountPath: /etc/convgroups/certificate",
            "/etc/convgroups/tls/tls.key is needed, and not mounted",
        ),
        (
            "            - name: usersig\n              mountPath: /etc/convgroups/usersig\n              readOnly: true\n",
            "",
            "has the volumes",
        ),
        ("/settings/convgroups.toml", "/settings/settings.toml", "no such file is mounted"),
        ("containerPort: 8443", "containerPort: 8080", "the server listens on 8443"),
        ("path: /readyz", "path: /ready", "readinessProbe asks for /ready"),
        (
            "              scheme: HTTPS\n            periodSeconds: 5",
            "            periodSeconds: 5",
            "readinessProbe speaks HTTP",
        ),
        (
            "port: https\n              scheme: HTTPS\n            periodSeconds: 2",
            "port: 8080\n              scheme: HTTPS\n            periodSeconds: 2",
            "startupProbe asks port 8080",
        ),
        ("enableServiceLinks: false", "enableServiceLinks: true", "environment CONVGROUPS_PORT"),
        ("name: CONVGROUPS_STORE", "name: CONVGROUPS_DATABASE", "environment CONVGROUPS_DATABASE"),
        ("--log-json", "--json-log", "unexpected argument"),
        ("runAsNonRoot: true", "runAsNonRoot: false", "Deployment convgroups: the pods' securityContext"),
        (
            "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false",
            "Deployment convgroups: the container's securityContext",
        ),
        ("runAsUser: 65532", "runAsUser: 1000", "'runAsUser': 1000"),
        ("defaultMode: 0440", "defaultMode: 0444", "can be read by others"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "a token for Kubernetes"),
        ("      containers:", "      hostNetwork: true\n      containers:", "share a namespace"),
    ],
    "kubernetes/horizontalpodautoscaler.yaml": [
        ("averageUtilization: 70", "averageUtilisation: 70", "'averageUtilisation' was unexpected"),
        ("    name: convgroups\n  min", "    name: convgroups-server\n  min", "the HorizontalPodAutoscaler scales"),
        ("maxReplicas: 8", "maxReplicas: 16", "connections to the database"),
        ("minReplicas: 3", "minReplicas: 1", "a single pod"),
    ],
    "kubernetes/networkpolicy.yaml": [
        ("podSelector:", "podSelectors:", "'podSelectors' was unexpected"),
        (
            "      app.kubernetes.io/name: convgroups",
            "      app.kubernetes.io/component: server",
            "the NetworkPolicy does not select the pods of convgroups-migrate",
        ),
        ("port: https", "port: http", "is no port of the container"),
        ("[Ingress, Egress]", "[Ingress]", "does not close both directions"),
    ],
    "kubernetes/migrate/job.yaml": [
        ("backoffLimit: 2", "backOffLimit: 2", "'backOffLimit' was unexpected"),
        ("serviceAccountName: convgroups", "serviceAccountName: migrate", "there is no ServiceAccount migrate"),
        ("/database/ca.crt", "/database/root.crt", "/etc/convgroups/database/root.crt is needed, and not mounted"),
        ("[migrate,", "[migration,", "unrecognized subcommand"),
        ("POSTGRES__CA_FILE", "POSTGRES__CAFILE", "Job convgroups-migrate: convgroups: the settings"),
        ("drop: [ALL]", "drop: [NET_RAW]", "Job convgroups-migrate: the container's securityContext"),
    ],
    "kubernetes/kustomization.yaml": [
        ("resources:", "resource:", 'unknown field "resource"'),
        ("  - poddisruptionbudget.yaml\n", "", "does not list poddisruptionbudget.yaml"),
        ("newTag: 0.1.0", "newTag: latest", "runs the image"),
    ],
    "kubernetes/service.yaml": [
        ("  selector:", "  selector: {}\n  selector:", 'mapping key "selector" already defined'),
        ("component: server\n  ports", "component: sever\n  ports", "the Service selects the pods of []"),
        (
            "    app.kubernetes.io/component: server\n  ports",
            "  ports",
            "the Service selects the pods of ['convgroups', 'convgroups-migrate']",
        ),
        ("targetPort: https", "targetPort: http", "is no port of the container"),
    ],
    "kubernetes/poddisruptionbudget.yaml": [
        (
            "      app.kubernetes.io/name: convgroups",
            "      app.kubernetes.io/name: convgroup",
            "the PodDisruptionBudget selects the pods of []",
        ),
    ],
    "kubernetes/migrate/kustomization.yaml": [
        ("namespace: convgroups", "namespace: default", "is not in the namespace"),
    ],
    "kubernetes/convgroups.toml": [
        ("/database/password", "/database/passwd", "/etc/convgroups/database/passwd is needed, and not mounted"),
        ('"0.0.0.0:8443"', '"127.0.0.1:8443"', "cannot be reached"),
        ("max_concurrent", "max_concurent", 'unknown setting "max_concurent"'),
        ("max_concurrent = 64", "max_concurrent = 0", "setting calls.max_concurrent: is 0"),
        ("shutdown_timeout_ms = 30000", "shutdown_timeout_ms = 60000", "terminationGracePeriodSeconds is 50"),
        ("max_concurrent = 64", "max_concurrent = 128", "the limit of memory is 2Gi"),
    ],
    "systemd/convgroups.service": [
        ("ProtectHome=yes", "ProtectHomes=yes", "'ProtectHomes'"),
        ("Restart=on-failure", "Restart=on-fault", "Failed to parse"),
        ("CapabilityBoundingSet=\n", "", "systemd-analyze security"),
        ("ProtectHome=yes", "ProtectHome=no", "no reason why ProtectHome= stays open"),
        ("--log-json", "--json-log", "unexpected argument"),
        ("/usr/local/bin/convgroups serve", "/usr/bin/convgroups serve", "the unit starts"),
        ("User=convgroups", "User=nobody", "the unit has User="),
        ("TimeoutStopSec=40", "TimeoutStopSec=30", "TimeoutStopSec is 30"),
        ("LimitNOFILE=65536", "LimitNOFILE=1024", "LimitNOFILE is 1024"),
    ],
    "systemd/convgroups.sysusers": [("u convgroups", "u chat", "and the users are ['chat']")],
    "systemd/convgroups.tmpfiles": [
        ("usersig.keys 0640 root convgroups", "usersig.keys 0640 convgroups convgroups", "does not give to root"),
    ],
    "systemd/convgroups.logrotate": [("/var/log/convgroups.log", "/var/log/chat.log", "what is rotated is")],
    "Containerfile": [
        ("EXPOSE 8443", "EXPOSE 8080", "the Containerfile exposes"),
        ("COPY . .", "ADD . .", "DL3020"),
        ("USER 65532:65532", "USER nonroot", "who runs the program"),
        ("USER 65532:65532\n", "USER 65532:65532\nUSER root\n", "DL3002"),
        ('ENTRYPOINT ["/usr/local/bin/convgroups"]', "ENTRYPOINT /usr/local/bin/convgroups", "DL3025"),
        ("rust:1.95.0-slim", "rust:1.94.0-slim", "the image is not built with Rust"),
        (":nonroot", "", "DL3006"),
        ("COPY LICENSE", "RUN true\nCOPY LICENSE", "commands of its own"),
        ('version="0.1.0"', 'version="0.0.9"', "label does not say version"),
    ],
}

# Mistakes in the unit that only show when the server runs.
UNIT_MISTAKES = [
    ("SystemCallFilter=@system-service", "SystemCallFilter=@basic-io @file-system @process", "the server is not ready"),
    ("RestrictAddressFamilies=AF_INET ", "RestrictAddressFamilies=", "the server is not ready"),
    ("StateDirectory=convgroups\n", "", "Failed at step CHDIR"),
    ("CapabilityBoundingSet=\n", "", "CapBnd of the server is"),
]


def main():
    folder = check.REPOSITORY / "deploy"
    results = [
        report("the files in deploy/", check.findings(folder, check.schema_versions())),
        report("the libraries that the program links to", list(check.libraries(check.PROGRAM))),
        report("the server with these settings answers the probes", list(serve(folder))),
        report("a library too many is found", expect("libcurl", check.libraries(shutil.which("curl")))),
    ]
    results.extend(on_a_machine(folder))
    mistake = ("kubernetes/deployment.yaml", "path: /readyz", "path: /ready")
    with changed(folder, *mistake) as copy:
        results.append(report("a probe that the server does not know is found", expect("HTTP Error 404", serve(copy))))
    for file, mistakes in MISTAKES.items():
        for old, new, finding in mistakes:
            with changed(folder, file, old, new) as copy:
                found = check.findings(copy, check.schema_versions()[-1:])
            results.append(report(f"a mistake in {file} is found: {finding}", expect(finding, found)))
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def on_a_machine(folder):
    """The unit under a real systemd, where one can be started."""
    try:
        findings = list(installed.findings(folder))
    except machine.Unavailable as reason:
        print(f"SKIPPED the unit under a real systemd: {reason}")
        return []
    results = [report("the unit, installed as documented on a machine of its own, serves and stops", findings)]
    for old, new, finding in UNIT_MISTAKES:
        with changed(folder, "systemd/convgroups.service", old, new) as copy:
            found = expect(finding, installed.findings(copy))
        results.append(report(f"a unit that does not run the server is found: {finding}", found))
    return results


def report(name, findings):
    print(f"{'ok    ' if not findings else 'FAILED'} {name}")
    for finding in findings:
        print(f"       {finding}")
    return not findings


def expect(finding, found):
    """What is wrong with a check: that it does not find a mistake."""
    found = list(found)
    return [] if any(finding in one for one in found) else [f"this was found instead: {found}"]


@contextlib.contextmanager
def changed(folder, file, old, new):
    """A copy of deploy/ with a mistake in it."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "deploy"
        shutil.copytree(folder, copy)
        text = (copy / file).read_text()
        if old not in text:
            raise SystemExit(f"{file} does not have {old!r}: this mistake cannot be made any more, think of another")
        (copy / file).write_text(text.replace(old, new, 1))
        yield copy


def serve(folder):
    """Runs the server with the settings of the ConfigMap, its files elsewhere and groups in memory, as a pod would."""
    deployment = check.Deployment(folder, [])
    if problems := list(check.render(deployment)):
        yield from problems
        return
    pod, container = deployment.server()
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        texts = check.mounted_files(deployment, pod, container)
        settings = texts[check.settings_path(container)].replace("/etc/convgroups", str(here))
        for path in texts:
            (here / path.removeprefix("/etc/convgroups/")).parent.mkdir(exist_ok=True)
        (here / "settings/convgroups.toml").write_text(settings)
        (here / "usersig/keys").write_text("a key that is only used here\n")
        # In a pod the file is root's, and its group may read it; here it is that of whoever runs this.
        (here / "usersig/keys").chmod(0o400)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
            + ["-keyout", here / "tls/tls.key", "-out", here / "tls/tls.crt"],
            check=True,
            capture_output=True,
        )
        arguments = [word.replace("/etc/convgroups", str(here)) for word in container["args"]]
        variables = check.environment(deployment, pod, container) | {"CONVGROUPS_STORE": "memory:"}
        command = [check.PROGRAM, *arguments, "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, env=variables, cwd=here, stderr=subprocess.PIPE, text=True)
        try:
            yield from answers(server, container)
        finally:
            server.terminate()
            log = server.communicate(timeout=60)[1]
        if server.returncode != 0:
            yield f"it ended with {server.returncode}: {log.strip()}"


def answers(server, container):
    said, listening = "", None
    # Warnings may come before.
    while not listening and (line := server.stderr.readline()):
        said += line
        listening = re.search(r"listening on (https?)://127\.0\.0\.1:(\d+)", line)
    if not listening:
        yield f"it does not listen: {said}"
        return
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        url = f"{get.get('scheme', 'HTTP').lower()}://127.0.0.1:{listening[2]}{get['path']}"
        # Like Kubernetes: whose certificate it is does not matter to a probe.
        trust = ssl._create_unverified_context()
        try:
            urllib.request.urlopen(url, timeout=container[probe].get("timeoutSeconds", 1), context=trust).close()
        except OSError as error:
            yield f"{probe}: {error}"


if __name__ == "__main__":
    sys.exit(main())
