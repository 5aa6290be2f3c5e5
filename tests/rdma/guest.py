"""Boots the RDMA guest and says what its programs printed and how they ended."""

import re
import subprocess
import time

QEMU = "qemu-system-x86_64"


class Ended:
    """One case that was run in the guest; `status` None: it never ended."""

    def __init__(self, name, status, output):
        self.name = name
        self.status = status
        self.output = output


def parse(text):
    """What init.sh wrote: every case that began, in order."""
    cases, name, lines = [], None, []
    for line in text.replace("\r", "").splitlines():
        begin = re.match(r"@@begin (\S+)$", line)
        end = re.match(r"@@end (\S+) (\d+)$", line)
        if begin:
            name, lines = begin[1], []
        elif end:
            cases.append(Ended(end[1], int(end[2]), "\n".join(lines)))
            name = None
        elif name is not None:
            lines.append(line)
    if name is not None:
        cases.append(Ended(name, None, "\n".join(lines)))
    return cases


def boot(out, limit_s):
    """Runs the guest in `out` to its end. Returns (cases, console text, seconds)."""
    console, results = out / "console.log", out / "results.log"
    command = [
        QEMU, "-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "max", "-smp", "2", "-m", "3G",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", str(out / "vmlinuz"),
        "-initrd", str(out / "initramfs.cpio"), "-append",
        "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on "
        "transparent_hugepage=madvise", "-serial", f"file:{console}", "-serial", f"file:{results}"]
    begin = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        child.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    seconds = time.monotonic() - begin
    return parse(results.read_text(errors="replace")), console.read_text(errors="replace"), seconds
