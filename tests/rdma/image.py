"""Puts the RDMA guest together: Debian's stock kernel, and an initramfs of this machine's programs.

A program comes with the shared libraries that it is linked to here, so nothing is installed in the
guest and nothing is built for it.
"""

import os
import pathlib
import re
import stat
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "guest"))

from debian_kernel import fetch_kernel  # noqa: E402
from initramfs import cpio_entry  # noqa: E402

KERNEL_PACKAGE = "linux-image-amd64"
# In the order in which they are loaded; dummy makes no device by itself then.
MODULES = [
    "crypto/gf128mul", "crypto/ghash-generic", "crypto/ctr", "crypto/gcm", "crypto/cryptd",
    "crypto/crypto_simd", "arch/x86/crypto/aesni-intel", "net/tls/tls",
    "crypto/crc32_generic", "fs/configfs/configfs", "net/ipv4/udp_tunnel",
    "net/ipv6/ip6_udp_tunnel", "drivers/net/dummy", "drivers/infiniband/core/ib_core",
    "drivers/infiniband/core/ib_uverbs", "drivers/infiniband/core/iw_cm",
    "drivers/infiniband/core/ib_cm", "drivers/infiniband/core/rdma_cm",
    "drivers/infiniband/core/rdma_ucm", "drivers/infiniband/sw/rxe/rdma_rxe",
    "drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "net/core/failover",
    "drivers/net/net_failover", "drivers/net/virtio_net",
]
TOOLS = ["bash", "cat", "cmp", "grep", "insmod", "ip", "mkdir", "mount", "rdma", "rm", "rmmod",
         "setpriv", "sleep", "sync", "timeout", "uname"]
LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")
QEMU = "qemu-system-x86_64"
QEMU_ACCELERATOR = str(LIBRARIES / "qemu" / "accel-tcg-x86_64.so")  # these it loads by itself
QEMU_ROM = "/usr/share/qemu/kvmvapic.bin"
# What the verbs library loads by itself.
PROVIDERS = str(LIBRARIES / "libibverbs" / "librxe-rdmav34.so")
PROVIDER_LIST = "/etc/libibverbs.d/rxe.driver"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def find_tool(name):
    for folder in PATH.split(":"):
        path = pathlib.Path(folder, name)
        if path.exists():
            return path
    raise SystemExit(f"rdma rig: there is no {name} on this machine; ./dev installs what is needed")


def shared_libraries(path):
    """What the dynamic linker would load for the program or library at `path`."""
    text = subprocess.run(["ldd", str(path)], check=True, text=True, capture_output=True).stdout
    return {pathlib.Path(word) for word in re.findall(r"(/\S+) \(0x", text)}


class Image:
    """The files of an initramfs, by their path in it."""

    def __init__(self):
        self._files = {}

    def add(self, path, source, stripped_in=None):
        """`source` as `path`, with its libraries; without its symbols if there is a folder for that."""
        source = pathlib.Path(source)
        for library in shared_libraries(source):
            self._take(library, stripped_in)
        self._files[path] = self._bytes(source, stripped_in)

    def add_text(self, path, text, mode=0o100644):
        self._files[path] = (mode, text.encode())

    def add_plain(self, path, source):
        self._files[path] = (0o100644, pathlib.Path(source).read_bytes())

    def _take(self, path, stripped_in):
        # One that was built here is found by its name.
        inside = str(LIBRARIES / path.name) if ROOT in path.resolve().parents else str(path)
        if inside not in self._files:
            self._files[inside] = self._bytes(path, stripped_in)

    @staticmethod
    def _bytes(source, stripped_in):
        real = source.resolve()
        if stripped_in is not None and ROOT in real.parents:
            target = stripped_in / real.name
            if not target.exists() or target.stat().st_mtime < real.stat().st_mtime:
                subprocess.run(["strip", "-o", target, real], check=True)
            real = target
        return (0o100755, real.read_bytes())

    def write(self, target):
        folders = set()
        for path in self._files:
            folders.update(str(folder) for folder in pathlib.PurePosixPath(path).parents)
        with open(target, "wb") as out:
            for folder in sorted(folders | {"/dev", "/proc", "/sys", "/tmp"} - {"/"}):
                if folder != "/":
                    out.write(cpio_entry(folder.lstrip("/"), stat.S_IFDIR | 0o755))
            out.write(cpio_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
            for path, (mode, data) in self._files.items():
                out.write(cpio_entry(path.lstrip("/"), mode, data))
            out.write(cpio_entry("TRAILER!!!", 0))


def build_firmware(out):
    """The VM that runs in a QEMU of the guest."""
    run("as", "--32", "-o", out / "firmware.o", HERE / "firmware.S")
    run("ld", "-m", "elf_i386", "-Ttext=0", "--oformat=binary", "-o", out / "firmware.bin",
        out / "firmware.o")
    return out / "firmware.bin"


def run(*command):
    subprocess.run(command, check=True)


def add_qemu(image, out):
    """What a QEMU needs besides itself, and what it runs."""
    image.add(QEMU_ACCELERATOR, QEMU_ACCELERATOR)
    image.add_plain(QEMU_ROM, QEMU_ROM)
    image.add_plain("/tests/firmware.bin", build_firmware(out))


def build(out, programs, cases):
    """Writes out/vmlinuz and out/initramfs.cpio.

    `programs` are built ones, put into /tests by their names, and this machine's own; `cases` are
    the lists for init.sh, by the side of the guest that runs them ("": the guest that is alone).
    """
    out.mkdir(parents=True, exist_ok=True)
    fetch_kernel(KERNEL_PACKAGE, MODULES, out)
    stripped = out / "stripped"
    stripped.mkdir(exist_ok=True)
    image = Image()
    for name in TOOLS:
        tool = find_tool(name)
        image.add(f"/usr/bin/{name}", tool)
        image.add(f"/bin/{name}", tool)
    image.add("/bin/sh", find_tool("bash"))
    for program in programs:
        program = pathlib.Path(program)
        inside = ROOT in program.resolve().parents
        image.add(f"/tests/{program.name}" if inside else str(program), program, stripped)
        if program.name == QEMU:
            add_qemu(image, out)
    image.add(PROVIDERS, PROVIDERS)
    image.add_plain(PROVIDER_LIST, PROVIDER_LIST)
    for name in MODULES:
        file = pathlib.Path(name).name + ".ko"
        image.add_plain(f"/modules/{file}", out / "modules" / file)
    order = [pathlib.Path(name).name for name in MODULES]
    image.add_text("/modules/order", "".join(
        f"{name}{' numdummies=0' if name == 'dummy' else ''}\n" for name in order))
    for script in HERE.glob("*.sh"):
        image.add_plain(f"/tests/{script.name}", script)
    image.add_text("/init", (HERE / "init.sh").read_text(), 0o100755)
    image.add_text("/etc/passwd", "root:x:0:0:root:/:/bin/bash\nnobody:x:65534:65534::/:/bin/bash\n")
    for side, lines in cases.items():
        image.add_text(f"/cases{side}", "".join(lines))
    image.write(out / "initramfs.cpio.part")
    os.replace(out / "initramfs.cpio.part", out / "initramfs.cpio")
