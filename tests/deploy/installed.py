"""Installs the unit as docs/production.md says, on a machine of its own, and uses the server there."""

import json
import re
import shutil
import subprocess
import time

import check
from machine import PATIENCE, Machine

FOLDER = "/root/convgroups"
SETTINGS = "/etc/convgroups/convgroups.toml"
# As systemctl names them.
STATE = ("ActiveState", "Result", "ExecMainStatus", "MainPID", "NRestarts")


def documented(language, containing):
    """The block of code in this language that contains a word."""
    page = (check.REPOSITORY / "docs/production.md").read_text()
    for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL):
        if containing in block:
            return block
    raise SystemExit(f"docs/production.md has no block of {language} with {containing!r}")


class Installed:
    """The service on a machine."""

    def __init__(self, machine, folder):
        self.machine = machine
        here = machine.path(FOLDER)
        (here / "target/release").mkdir(parents=True)
        shutil.copy(check.PROGRAM, here / "target/release/convgroups")
        shutil.copytree(folder, here / "deploy")
        self.put(SETTINGS, documented("toml", "keys_file"))
        self.put("/etc/convgroups/usersig.keys", "a key that is only used here\n")
        tls = machine.path("/etc/convgroups/tls")
        tls.mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
            + ["-keyout", tls / "privkey.pem", "-out", tls / "fullchain.pem"],
            check=True,
            capture_output=True,
        )

    def put(self, path, text):
        file = self.machine.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def shell(self, script):
        ended = self.machine.run("sh", "-ec", script)
        if ended.returncode != 0:
            raise check.Finding(f"{script.strip()}: {ended.stdout}{ended.stderr}{self.log()}".strip())
        return ended.stdout

    def install(self):
        self.shell(f"cd {FOLDER}\n{documented('sh', 'systemd-sysusers')}")

    def state(self):
        shown = self.shell(f"systemctl show convgroups --property={','.join(STATE)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def log(self):
        return self.machine.run("journalctl", "--unit=convgroups", "--no-pager", "--output=cat", "--lines=20").stdout

    def request(self, path, *arguments):
        command = ["curl", "-s", "-k", "-m", "10", *arguments, f"https://127.0.0.1:8443{path}"]
        return self.machine.run(*command).stdout

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE
        while self.request("/readyz") != '{"status":"ready"}':
            state = self.state()
            runs = state["ActiveState"] in ("active", "activating") and state["NRestarts"] == "0"
            if not runs or time.monotonic() > deadline:
                raise check.Finding(f"the server is not ready: {state} {self.log()}")
            time.sleep(0.1)

    def call(self, method, **parameters):
        signature = self.shell(f"convgroups usersig alice --config {SETTINGS}").strip()
        authorization = f"Authorization: Bearer {signature}"
        answer = self.request(f"/v1/{method}", "-H", authorization, "-d", json.dumps(parameters))
        return json.loads(answer or '"no answer"')

    def drop_in(self, name, text):
        self.put(f"/etc/systemd/system/convgroups.service.d/{name}", text)
        self.shell("systemctl daemon-reload; systemctl restart convgroups")

    def remove_drop_ins(self):
        self.shell("rm -r /etc/systemd/system/convgroups.service.d; systemctl daemon-reload; systemctl restart convgroups")


def findings(folder):
    with Machine() as machine:
        try:
            service = Installed(machine, folder)
            service.install()
            service.wait_until_ready()
            for part in (confined, serves, reloads, compiles_a_plugin_file, needs_executable_memory, logs_to_a_file, stops):
                yield from part(service)
        except check.Finding as finding:
            yield str(finding)


def confined(service):
    """The settings are in force."""
    status = service.shell(f"cat /proc/{service.state()['MainPID']}/status")
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    user = service.shell("id -u convgroups").strip()
    expected = {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16, "Uid": "\t".join([user] * 4)}
    for name, value in expected.items():
        if values[name] != value:
            yield f"{name} of the server is {values[name]}, not {value}"
    modes = service.shell("cd /etc/convgroups; stat --format='%a %U %G' . usersig.keys tls tls/privkey.pem /var/lib/convgroups")
    if modes.splitlines() != [
        "750 root convgroups",
        "640 root convgroups",
        "750 root convgroups",
        "640 root convgroups",
        "700 convgroups convgroups",
    ]:
        yield f"files have the modes {modes}"


def serves(service):
    created = service.call("createConversationGroup", groupName="Work", conversationIDList=["c2c_bob"])
    if created.get("code") != 0:
        yield f"a call fails: {created}"


def still_has_its_groups(service):
    service.wait_until_ready()
    groups = service.call("getConversationGroupList")
    if groups.get("data") != ["Work"]:
        yield f"the groups are {groups}"


def reloads(service):
    """New keys hold after a reload, and the process is the same."""
    before = service.state()
    service.put("/etc/convgroups/usersig.keys", "another key that is only used here\n")
    service.shell("systemctl reload convgroups")
    yield from still_has_its_groups(service)
    if service.state() != before:
        yield f"after a reload the state is {service.state()}, and was {before}"


def compiles_a_plugin_file(service):
    """With another plugin than the bundled one, and nothing compiled before."""
    service.shell("convgroups plugin export /etc/convgroups/plugin.wasm; systemd-tmpfiles --create convgroups.conf")
    service.shell("rm -r /var/lib/convgroups/cache")
    variable = "CONVGROUPS_PLUGIN=/etc/convgroups/plugin.wasm"
    service.drop_in("plugin.conf", f"[Service]\nEnvironment={variable}\n")
    yield from still_has_its_groups(service)
    service.remove_drop_ins()
    service.wait_until_ready()


def needs_executable_memory(service):
    """The reason why MemoryDenyWriteExecute= stays off."""
    service.shell("rm -r /var/lib/convgroups/cache")
    drop_in = "[Service]\nMemoryDenyWriteExecute=yes\nRestart=no\n"
    service.drop_in("memory.conf", drop_in)
    deadline = time.monotonic() + PATIENCE
    while service.state()["ActiveState"] == "active" and time.monotonic() < deadline:
        time.sleep(0.1)
    if service.state()["Result"] != "exit-code":
        yield f"the server starts without executable memory: set MemoryDenyWriteExecute=yes: {service.state()} {service.log()}"
    service.remove_drop_ins()
    service.wait_until_ready()


def logs_to_a_file(service):
    """And goes on in the same file when that is rotated."""
    service.shell(
        f"install -m 0644 {FOLDER}/deploy/systemd/convgroups.logrotate /etc/logrotate.d/convgroups; "
        "logrotate --debug /etc/logrotate.d/convgroups"
    )
    service.drop_in("log-to-file.conf", service.machine.path(f"{FOLDER}/deploy/systemd/log-to-file.conf").read_text())
    yield from still_has_its_groups(service)
    service.shell("logrotate --force /etc/logrotate.d/convgroups")
    service.call("noSuchMethod")
    for file, has, has_not in (
        ("convgroups.log.1", "getConversationGroupList", '"unknown"'),
        ("convgroups.log", '"unknown"', "getConversationGroupList"),
    ):
        text = service.shell(f"cat /var/log/{file}")
        if has not in text or has_not in text:
            yield f"{file} has {text!r}"
    mode = service.shell("stat --format='%a %U' /var/log/convgroups.log").strip()
    if mode != "600 root":
        yield f"the log has the mode {mode}"
    service.remove_drop_ins()
    service.wait_until_ready()


def stops(service):
    service.shell("systemctl stop convgroups")
    state = service.state()
    if (state["ActiveState"], state["Result"], state["ExecMainStatus"]) != ("inactive", "success", "0"):
        yield f"it does not stop well: {state} {service.log()}"
