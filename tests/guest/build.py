#!/usr/bin/env python3
"""Builds the test guests into build/guest: vmlinuz, initramfs.cpio and boot.img.

The kernel is Debian's cloud kernel, unpacked there and never installed. Each artefact is made again
only when what it is made of is newer.
"""

import pathlib
import subprocess
import sys

from debian_kernel import fetch_kernel
from initramfs import cpio_entry

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OUT = ROOT / "build" / "guest"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = [
    "drivers/virtio/virtio", "drivers/virtio/virtio_ring", "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci",
    "drivers/virtio/virtio_balloon", "drivers/block/virtio_blk", "net/core/failover",
    "drivers/net/net_failover", "drivers/net/virtio_net",
]


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, **options)


def stale(target, sources):
    return not target.exists() or any(
        source.stat().st_mtime > target.stat().st_mtime for source in sources)


def build_initramfs():
    sources = [HERE / name for name in ("main.c", "workers.c", "choose.c", "memory.c", "sqlite.c",
                                        "devices.c")]
    target = OUT / "initramfs.cpio"
    if not stale(target, [*sources, HERE / "guest.h", OUT / "vmlinuz"]):
        return
    if not pathlib.Path("/usr/include/sqlite3.h").exists():
        raise SystemExit("guest: sqlite3.h is not there: the guest links SQLite statically; install "
                         "Debian's libsqlite3-dev (./dev does)")
    program = OUT / "faultline-guest"
    # SQLite asks for extensions by dlopen, of which ld warns in a static program; the guest has none.
    run("cc", "-static", "-Wl,--no-warnings", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread",
        "-o", program, *sources, "-lsqlite3", "-lm")
    run("strip", program)
    image = cpio_entry("dev", 0o040755) + cpio_entry("dev/console", 0o020600, device=(5, 1))
    image += cpio_entry("modules", 0o040755)
    for module in sorted((OUT / "modules").glob("*.ko")):
        image += cpio_entry(f"modules/{module.name}", 0o100644, module.read_bytes())
    image += cpio_entry("init", 0o100755, program.read_bytes())
    target.write_bytes(image + cpio_entry("TRAILER!!!", 0))


def build_boot_sector():
    source = HERE / "boot_sector.S"
    target = OUT / "boot.img"
    if not stale(target, [source]):
        return
    code = OUT / "boot_sector.o"
    run("as", "--32", "-o", code, source)
    run("ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-o", target, code)
    if target.stat().st_size != 512:
        raise SystemExit(f"{target}: {target.stat().st_size} bytes, a boot sector has 512")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    fetch_kernel(KERNEL_PACKAGE, MODULES, OUT)
    build_initramfs()
    build_boot_sector()


if __name__ == "__main__":
    sys.exit(main())
