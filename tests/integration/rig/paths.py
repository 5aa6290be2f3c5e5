"""Where things are. Environment variables override each, so that a test can be run on other builds."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("FAULTLINE_BUILD", ROOT / "build"))
FAULTLINE = pathlib.Path(os.environ.get("FAULTLINE_BINARY", BUILD / "faultline"))
HOOK = pathlib.Path(os.environ.get("FAULTLINE_HOOK", BUILD / "faultline-qemu.so"))
SANITIZED = "FAULTLINE_SANITIZED" in os.environ  # the command has a sanitizer in it
GUEST = ROOT / "build" / "guest"
SYSTEM_QEMU = "/usr/bin/qemu-system-x86_64"
QEMU10 = ROOT / "build" / "qemu10" / "qemu-system-x86_64"


def qemus():
    """The QEMU binaries to test: FAULTLINE_QEMUS=path,path or the system's own and QEMU 10."""
    named = os.environ.get("FAULTLINE_QEMUS")
    if named:
        return named.split(",")
    return [SYSTEM_QEMU] + ([str(QEMU10)] if QEMU10.exists() else [])


def qemu():
    """The QEMU of this test run (the runner sets it per test)."""
    return os.environ.get("FAULTLINE_QEMU", qemus()[0])
