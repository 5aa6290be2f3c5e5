"""A stock QEMU with everything a migration test needs around it."""

import dataclasses
import itertools
import os
import shutil

from . import paths
from .guest import Serial
from .process import Process, wait_until
from .qmp import Qmp

KERNEL_WORDS = ("console=ttyS0 quiet loglevel=1 tsc=reliable clocksource=tsc mitigations=off "
                "no_timer_check panic=-1")


@dataclasses.dataclass
class Backend:
    """One piece of guest RAM. kind: file (mem-path), memfd, ram (private), none (-m alone)."""

    mib: int
    path: str = ""
    kind: str = "file"
    share: bool = True
    extra: str = ""  # more properties, such as ",prealloc=on"
    id: str = ""     # ram0, ram1, ... if empty

    def argument(self, name):
        text = f"memory-backend-{self.kind},id={name},size={self.mib}M"
        if self.kind == "file":
            text += f",mem-path={self.path}"
        return text + f",share={'on' if self.share else 'off'}{self.extra}"


class Vm:
    """Builds the command line, starts QEMU, and holds its monitor and serial port.

    workdir      folder for sockets and logs (short path: unix socket names are limited)
    backends     RAM in order; one becomes the machine's memory, several become NUMA nodes
    kernel       options of the checking guest ("fl.mib=512 ..."), or None
    boot_sector  boots that guest instead
    incoming     True: waits with -incoming defer
    hook         loads the hook (True, or the path of one); its socket is `hook_socket`
    extra        more QEMU words
    netns        network namespace that QEMU runs in
    memory       more of -m ("slots=2,maxmem=1G")
    wrap         words before QEMU's own (setpriv, ...)

    Two monitors: `engine_qmp` is a path for the engine to use, `qmp` is the rig's own connection.
    """

    def __init__(self, workdir, name, backends, *, qemu=None, accel="tcg", kernel=None,
                 boot_sector=False, incoming=False, hook=True, extra=(), netns=None, cpus=1,
                 machine="pc", memory="", wrap=()):
        self.name = name
        self.workdir = workdir
        self.backends = backends
        self.qemu = qemu or paths.qemu()
        self.netns = netns
        self.wrap = wrap
        self.engine_qmp = os.path.join(workdir, f"{name}.qmp")
        self.rig_qmp = os.path.join(workdir, f"{name}.rig")
        self.hook_socket = os.path.join(workdir, f"{name}.hook")
        self.log_path = os.path.join(workdir, f"{name}.log")
        self.serial = Serial(os.path.join(workdir, f"{name}.ser"))
        self.process = None
        self.qmp = None
        self.words = self._words(accel, machine, cpus, kernel, boot_sector, incoming, hook, memory,
                                 extra)

    def _words(self, accel, machine, cpus, kernel, boot_sector, incoming, hook, memory, extra):
        total_mib = sum(backend.mib for backend in self.backends)
        words = ["-accel", accel, "-m", ",".join(filter(None, (f"{total_mib}M", memory))), "-smp", str(cpus), "-nodefaults",
                 "-vga", "none", "-display", "none", "-no-reboot", "-no-user-config"]
        if accel == "tcg":
            words += ["-cpu", "qemu64"]
        for number, backend in enumerate(self.backends):
            if backend.kind != "none":
                words += ["-object", backend.argument(backend.id or f"ram{number}")]
        if len(self.backends) == 1:
            if self.backends[0].kind != "none":
                machine += f",memory-backend={self.backends[0].id or 'ram0'}"
        else:
            for number in range(len(self.backends)):
                words += ["-numa", f"node,nodeid={number},memdev=ram{number}"]
        words += ["-machine", machine]
        for name, path in (("engine", self.engine_qmp), ("rig", self.rig_qmp)):
            words += ["-chardev", f"socket,id={name},path={path},server=on,wait=off",
                      "-mon", f"chardev={name},mode=control"]
        words += ["-chardev", f"socket,id=serial,path={self.serial.path}",
                  "-serial", "chardev:serial"]
        if hook:
            words += ["-plugin", f"{paths.HOOK if hook is True else hook},socket={self.hook_socket}"]
        if incoming:
            words += ["-incoming", "defer"]
        if kernel is not None:
            words += ["-kernel", paths.GUEST / "vmlinuz", "-initrd", paths.GUEST / "initramfs.cpio",
                      "-append", f"{KERNEL_WORDS} {kernel}"]
        if boot_sector:
            # Read-only through a snapshot: both sides of a migration may open it.
            words += ["-drive", f"file={self._boot_image(total_mib)},format=raw,if=ide,snapshot=on"]
        return [str(word) for word in (*words, *extra)]

    def _boot_image(self, total_mib):
        """The boot sector with the end of its memory written into it."""
        image = os.path.join(self.workdir, f"boot{total_mib}.img")
        if not os.path.exists(image):
            shutil.copy(paths.GUEST / "boot.img", image)
            with open(image, "r+b") as file:
                file.seek(4)
                file.write((total_mib << 20).to_bytes(4, "little"))
        return image

    def start(self, timeout_s=20):
        """Starts QEMU and waits for its monitor."""
        self.process = Process([*self.wrap, self.qemu, *self.words], self.log_path, netns=self.netns)
        return self.attach(timeout_s)

    def attach(self, timeout_s=20):
        """Connects to the monitor; for a QEMU that `faultline receive -- ...` started."""
        wait_until(lambda: os.path.exists(self.rig_qmp) or not self._running(), timeout_s,
                   f"{self.name}: QEMU opened no monitor")
        if not self._running():
            raise AssertionError(f"{self.name}: QEMU ended at once: {self.log()}")
        self.qmp = Qmp(self.rig_qmp, timeout_s)
        return self

    def _running(self):
        return self.process is None or self.process.alive()

    def status(self):
        """QEMU's run state, such as running, paused, postmigrate, inmigrate."""
        return self.qmp.execute("query-status")["status"]

    def wait_status(self, *wanted, timeout_s=20):
        return wait_until(lambda: self.status() in wanted, timeout_s,
                          f"{self.name}: run state {' or '.join(wanted)}, is {self.status()}")

    def wait_ready(self, timeout_s=120):
        """Waits until the checking guest has filled its memory."""
        return self.serial.wait_line("FL ready", timeout_s)

    def pid(self):
        return self.process.pid

    def log(self):
        return self.process.log() if self.process else ""

    def kill(self):
        if self.qmp:
            self.qmp.close()
            self.qmp = None
        if self.process:
            self.process.kill()
        self.serial.close()

    def describe(self):
        return (f"--- {self.name}: QEMU's stderr\n{self.log()}\n"
                f"--- {self.name}: serial port\n{self.serial.tail()}")


_numbers = itertools.count()


def ram_file(directory, mib=None):
    """A path for a RAM file of its own in a tmpfs or hugetlbfs folder; QEMU creates the file."""
    return os.path.join(directory, f"ram{next(_numbers)}")
