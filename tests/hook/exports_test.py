"""The hook exports QEMU's two symbols, needs libc alone, and stays loaded."""
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


library = sys.argv[1]
exported = sorted(line.split()[-1].split("@")[0]
                  for line in output("nm", "-D", "--defined-only", library).splitlines())
dynamic = output("readelf", "-d", library)
needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line]

assert exported == ["qemu_plugin_install", "qemu_plugin_version"], exported
assert needed == ["libc.so.6"], needed
assert "NODELETE" in dynamic, "a library with a thread of its own must not be unloaded"
