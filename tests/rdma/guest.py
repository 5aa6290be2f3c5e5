"""Boots the RDMA guest, or two, and says what the programs in it printed and how they ended."""

import re
import socket
import subprocess
import time

QEMU = "qemu-system-x86_64"
SIDES = ("source", "destination")  # of two guests that are joined


class Ended:
    """One case that was run in the guest; `status` None: it never ended."""

    def __init__(self, name, status, output, seconds=0.0):
        self.name = name
        self.status = status
        self.output = output
        self.seconds = seconds


def parse(text):
    """What init.sh wrote: every case that began, in order. Its lines may follow a piece of another
    one, which a program of the case left without an end."""
    cases, name, lines = [], None, []
    for line in text.replace("\r", "").splitlines():
        begin = re.search(r"@@begin (\S+)$", line)
        end = re.search(r"@@end (\S+) (\d+) (\d+)$", line)
        if begin:
            if name is not None:
                cases.append(Ended(name, None, "\n".join(lines)))
            name, lines = begin[1], []
        elif end:
            cases.append(Ended(end[1], int(end[2]), "\n".join(lines), int(end[3]) / 100))
            name = None
        elif name is not None:
            lines.append(line)
    if name is not None:
        cases.append(Ended(name, None, "\n".join(lines)))
    return cases


def _start(out, name, memory, words=(), kernel_words="", pass_fds=()):
    """A guest; its serial lines go to files in `out` that bear its name."""
    command = [
        QEMU, "-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "max", "-smp", "2", "-m", memory,
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", str(out / "vmlinuz"),
        "-initrd", str(out / "initramfs.cpio"), "-append",
        "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off no_timer_check random.trust_cpu=on "
        f"transparent_hugepage=madvise {kernel_words}",
        "-serial", f"file:{out}/{name}console.log", "-serial", f"file:{out}/{name}results.log", *words]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=pass_fds)


def _await(children, limit_s):
    end = time.monotonic() + limit_s
    for child in children:
        try:
            child.wait(timeout=max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _read(path):
    return path.read_text(errors="replace")


def boot(out, limit_s):
    """Runs the guest in `out` to its end. Returns (cases, console text, seconds)."""
    begin = time.monotonic()
    _await([_start(out, "", "3G")], limit_s)
    seconds = time.monotonic() - begin
    return parse(_read(out / "results.log")), _read(out / "console.log"), seconds


def boot_pair(out, limit_s):
    """The same with two guests that share a network: a case is what both have printed of it."""
    begin = time.monotonic()
    children, ends = [], socket.socketpair()
    for number, (side, end) in enumerate(zip(SIDES, ends)):
        handle = end.fileno()
        children.append(_start(
            out, f"{side}-", "1G", pass_fds=[handle], kernel_words=f"side={side}",
            words=["-netdev", f"socket,id=net,fd={handle}", "-device",
                   f"virtio-net-pci,netdev=net,romfile=,host_mtu=9000,mac=52:54:00:09:09:0{number + 1}"]))
        end.close()
    _await(children, limit_s)
    seconds = time.monotonic() - begin
    both = [parse(_read(out / f"{side}-results.log")) for side in SIDES]
    console = "".join(_read(out / f"{side}-console.log") for side in SIDES)
    return [_joined(*ended) for ended in zip(*both)], console, seconds


def _joined(source, destination):
    bad = [one.status for one in (source, destination) if one.status != 0]
    return Ended(source.name, bad[0] if bad else 0, f"{source.output}\n{destination.output}",
                 max(source.seconds, destination.seconds))
