"""Namespaces of one's own: ports, bridges and RAM files are private, nothing outlives the command."""

import os
import subprocess
import sys
import traceback

_UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "unchanged",
            "--net"]
# In a chroot "/" is no mount point and cannot be made private, but what we mount upon can.
_ENTER = """
mount --make-rprivate / 2>/dev/null || for point in /proc /dev /dev/shm; do
  mount --make-rprivate $point 2>/dev/null
done
mount -t proc proc /proc && mount -t tmpfs -o mode=1777 fl /dev/shm && ip link set lo up || exit 1
exec "$@"
"""
_INSIDE = "FAULTLINE_ISOLATED"


def prefix():
    """Words to put before a command; None where namespaces are forbidden."""
    words = [*_UNSHARE, "sh", "-c", _ENTER, "sh"]
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else None


def reap(main):
    """As the first process of a namespace: runs main() in a child and waits for all orphans."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = main() or 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            if end.code is not None and not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(status)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def run_isolated(main):
    """Runs this script again in namespaces of its own, then main() there; returns its status."""
    if os.environ.get(_INSIDE):
        return reap(main)
    words = prefix()
    if words is None:
        raise SystemExit("this needs root: it makes namespaces, and shared memory of its own")
    os.environ[_INSIDE] = "1"
    os.execvp(words[0], [*words, sys.executable, *sys.argv])
