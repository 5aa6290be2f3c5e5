"""RAM files, huge pages and swap on the host."""

import ctypes
import fcntl
import os
import re

from .process import run
from .qmp import QmpError

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_OPEN = 434
_SYS_PROCESS_MADVISE = 440
_MADV_PAGEOUT = 21
_CHUNK_BYTES = 1 << 20


def differing_pages(path_a, path_b, page_bytes=4096):
    """Numbers of the pages in which two RAM files differ. Holes read as zeros and stay holes."""
    size = os.path.getsize(path_a)
    if size != os.path.getsize(path_b):
        raise AssertionError(f"{path_a} has {size} bytes, {path_b} {os.path.getsize(path_b)}")
    step = max(_CHUNK_BYTES, page_bytes)
    pages = []
    with open(path_a, "rb", buffering=0) as a, open(path_b, "rb", buffering=0) as b:
        for offset in range(0, size, step):
            chunk_a = _pread(a, step, offset)
            chunk_b = _pread(b, step, offset)
            if chunk_a == chunk_b:
                continue
            for start in range(0, len(chunk_a), page_bytes):
                if chunk_a[start:start + page_bytes] != chunk_b[start:start + page_bytes]:
                    pages.append((offset + start) // page_bytes)
    return pages


def used_ring_pages(vm):
    """The RAM pages that hold the virtio queues' used rings, which QEMU's device load may write.

    On this machine type guest-physical addresses below 3 GiB are offsets into the RAM file."""
    pages = set()
    for device in vm.qmp.execute("x-query-virtio"):
        for queue in range(64):
            try:
                ring = vm.qmp.execute("x-query-virtio-queue-status", path=device["path"],
                                      queue=queue)
            except QmpError:
                break  # it has no more queues
            if ring["vring-used"] == 0:
                continue
            used_bytes = 4 + 8 * ring["vring-num"] + 2
            pages.update(range(ring["vring-used"] // 4096,
                               (ring["vring-used"] + used_bytes - 1) // 4096 + 1))
    return pages


def _pread(file, length, offset):
    data = b""
    while len(data) < length:
        piece = os.pread(file.fileno(), length - len(data), offset + len(data))
        if not piece:
            break
        data += piece
    return data


def allocated_bytes(path):
    """What the file really holds: its holes are not counted."""
    return os.stat(path).st_blocks * 512


class HugePages:
    """Reserves 2 MiB pages and mounts a hugetlbfs of its own; raises OSError if there are too few.

    The kernel's number of huge pages is one for the machine, so tests that use them wait for each
    other.
    """

    def __init__(self, mib, directory):
        self.directory = directory
        self._lock = open("/tmp/faultline-hugepages.lock", "w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._control = "/proc/sys/vm/nr_hugepages"
        with open(self._control) as file:
            self._before = int(file.read())
        pages = mib // 2
        self._set(self._before + pages)
        with open("/proc/meminfo") as file:
            free = int(re.search(r"HugePages_Free:\s+(\d+)", file.read()).group(1))
        if free < pages:
            self._set(self._before)
            self._lock.close()
            raise OSError(f"{pages} huge pages wanted, the kernel found {free}")
        os.makedirs(directory, exist_ok=True)
        run("mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", directory)

    def _set(self, pages):
        with open(self._control, "w") as file:
            file.write(str(pages))

    def close(self):
        run("umount", "-l", self.directory, check=False)
        self._set(self._before)
        self._lock.close()


class SwapFile:
    """Swap space in a file of its own. `usable` says why not, if the kernel refuses it."""

    def __init__(self, path, mib):
        self.path = path
        self.error = None
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.posix_fallocate(fd, 0, mib << 20)
        os.close(fd)
        try:
            run("mkswap", path)
            run("swapon", path)
        except AssertionError as error:
            self.error = str(error)

    def used_kib(self):
        with open("/proc/swaps") as file:
            for line in file:
                if line.split()[0] == self.path:
                    return int(line.split()[3])
        return 0

    def close(self):
        if not self.error:
            run("swapoff", self.path, check=False)
        os.unlink(self.path)


def mappings(pid, path):
    """(start, end) of every mapping of a file in a process."""
    found = []
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            words = line.split(None, 5)
            if len(words) == 6 and words[5].strip() == path:
                start, end = words[0].split("-")
                found.append((int(start, 16), int(end, 16)))
    return found


def page_out(pid, start, end):
    """Asks the kernel to reclaim a range of another process's memory (to swap)."""
    pidfd = _LIBC.syscall(_SYS_PIDFD_OPEN, pid, 0)
    if pidfd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_open")
    try:
        step = 64 << 20
        for begin in range(start, end, step):
            iovec = (ctypes.c_uint64 * 2)(begin, min(step, end - begin))
            if _LIBC.syscall(_SYS_PROCESS_MADVISE, pidfd, iovec, ctypes.c_size_t(1), _MADV_PAGEOUT,
                             0) < 0:
                raise OSError(ctypes.get_errno(), "process_madvise(MADV_PAGEOUT)")
    finally:
        os.close(pidfd)
