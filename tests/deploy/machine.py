"""A machine of its own for tests: systemd as the first process of new namespaces, on a copy of this system that is thrown away.

It needs root, and a kernel that allows mounts in a namespace.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = Path("/lib/systemd/systemd")
# Far longer than anything takes.
PATIENCE = 120

# Runs as the first process of the namespaces, in the folder of the machine. Nothing of this system is written to: the root is
# laid over it, and devices are bound one by one.
BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$PWD"
cd "$PWD"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# Not chroot, in which no user namespace can be made.
mkdir before
pivot_root . before
cd /
umount --lazy before
exec env -i PATH="$PATH" container=other \\
    /lib/systemd/systemd --system --unit=sysinit.target --log-target=journal --show-status=no
"""


class Unavailable(Exception):
    """Why there can be no such machine here."""


class Machine:
    """Runs from `with` to the end of its block."""

    def __enter__(self):
        if os.geteuid() != 0:
            raise Unavailable("only root can start one")
        if not SYSTEMD.exists():
            raise Unavailable("systemd is not installed")
        self.folder = tempfile.TemporaryDirectory()
        self.cgroup = own_cgroup()
        self.log = tempfile.TemporaryFile("w+")
        self.init = None
        try:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL"]
                + ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
                + ["env", PATH, "sh", "-c", BOOT],
                cwd=self.folder.name,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text("0"),
            )
            self.wait_until_it_runs()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_it_runs(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Unavailable(f"it does not start: {self.said()}")
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children:
                self.init = int(children[0])
                if self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise Unavailable(f"it does not become ready: {self.said()}")

    def __exit__(self, *_):
        if self.process is not None:
            # The end of the first process is the end of all others.
            if self.init:
                kill(self.init)
            self.process.kill()
            self.process.wait()
        deadline = time.monotonic() + PATIENCE
        while self.cgroup.exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    # Its processes are on their way out.
                    time.sleep(0.05)
        self.folder.cleanup()

    def said(self):
        self.log.seek(0)
        return self.log.read().strip()

    def run(self, *command, **options):
        """Runs a command on the machine."""
        enter = ["nsenter", "--target", str(self.init), "--all", "--root", "--wdns=/", "env", "-i", PATH]
        options = {"capture_output": True, "text": True, "timeout": PATIENCE} | options
        return subprocess.run([*enter, *command], **options)

    def path(self, path):
        """Where a file of the machine is on this system."""
        return Path(f"/proc/{self.init}/root") / str(path).lstrip("/")


def kill(process):
    try:
        os.kill(process, 9)
    except ProcessLookupError:
        pass


def own_cgroup():
    """A new group of processes, which systemd may divide: it must not be that of any other process."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    mount = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), None)
    if mount is None or own is None:
        raise Unavailable("version 2 of cgroups is not mounted")
    cgroup = Path(mount) / own.lstrip("/") / f"convgroups-test-{os.getpid()}"
    try:
        cgroup.mkdir()
    except OSError as error:
        raise Unavailable(f"no cgroup can be made: {error}") from error
    return cgroup
