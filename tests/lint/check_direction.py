"""The direction of docs/architecture.md: which room may include which."""

import re

from sources import code_files, name_of

_BASE = {"base"}
_PAGES = _BASE | {"pages"}
_PROTOCOL = _PAGES | {"protocol"}
_SEAMS = _PROTOCOL | {"seams"}
_DRIVER = _SEAMS | {"runtime"}

# A room's own headers are always allowed; "room/file.h" is one header, "room/folder/" all in it.
ALLOWED = {
    "base": set(),
    "pages": _BASE,
    "protocol": _PAGES,
    "seams": _PROTOCOL,
    "engine": _SEAMS,
    "runtime": _SEAMS,
    "prefetch": _SEAMS,
    # The hook's protocol is a wire format, and the one header that the hook shares: C, libc only.
    "memory": _DRIVER | {"hook/hook_protocol.h"},
    "transport/tcp": _DRIVER,
    # Control, what is not read one-sidedly, and TLS are the TCP transport's.
    "transport/rdma": _DRIVER | {"transport/tcp"},
    "vmm/qemu": _DRIVER,
    "vmm/callbacks": _DRIVER,
    "hook": set(),
    "assembly": _DRIVER | {"engine", "prefetch", "memory", "transport/tcp", "transport/rdma",
                           "vmm/qemu", "vmm/callbacks"},
    # The journal outlives sessions, so the command owns it; its own threads need no rights.
    "cli": _BASE | {"assembly", "engine/session_report.h", "seams/journal.h", "runtime/journal/",
                    "runtime/confinement/"},
}
# The guardian (a subcommand) and the doctor talk to a monitor without a session.
EXTRA = {r"src/cli/main\.cc$": {"vmm/qemu/guardian.h"},
         r"src/cli/vm_examination\.(cc|h)$": {"vmm/qemu"}}

# Rooms that compute and wait for nobody: no system calls, no event loop.
PURE = ("pages", "protocol", "seams", "engine", "prefetch")
_SYSTEM = re.compile(r"^(uv\.h|sys/.*|linux/.*|net/.*|netinet/.*|arpa/.*|unistd\.h|fcntl\.h|poll\.h"
                     r"|pthread\.h|signal\.h|csignal|dirent\.h|spawn\.h|sched\.h|filesystem|fstream"
                     r"|thread)$")
_LOOP_ROOMS = ("runtime", "transport/tcp", "transport/rdma")  # uv.h, nowhere else
_INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.M)


def room_of(header):
    """The room that a header or a source below src/ belongs to; None if there is none."""
    parts = header.split("/")
    for length in (2, 1):
        if "/".join(parts[:length]) in ALLOWED and len(parts) > length:
            return "/".join(parts[:length])
    return None


def _may_include(room, name, header):
    other = room_of(header)
    allowed = set(ALLOWED[room])
    for pattern, more in EXTRA.items():
        if re.search(pattern, name):
            allowed |= more
    folder = header.rpartition("/")[0] + "/"
    return other == room or other in allowed or header in allowed or folder in allowed


def direction(root):
    for path in code_files(root, "src"):
        name = name_of(root, path)
        room = room_of(name.removeprefix("src/"))
        if room is None:
            yield f"{name} lies in no room that check_direction.py knows"
            continue
        for own, system in _INCLUDE.findall(path.read_text()):
            if own and "/" not in own:
                yield f'{name} includes "{own}": write "room/file.h"'
            elif own.startswith("absl/"):
                if room == "hook":
                    yield f"{name} includes {own}: the hook uses libc only"
            elif own and not _may_include(room, name, own):
                yield f"{name} includes {own}: {room} may not use {room_of(own) or 'that'}"
            elif system == "uv.h" and room not in _LOOP_ROOMS:
                yield f"{name} includes uv.h: only {', '.join(_LOOP_ROOMS)} may"
            elif system and room in PURE and _SYSTEM.match(system):
                yield f"{name} includes {system}: {room} makes no system calls"
            elif system and room == "hook" and not system.endswith(".h"):
                yield f"{name} includes {system}: the hook is C and uses libc only"


_PUBLIC_C = {"stddef.h", "stdint.h", "string.h"}


def public_headers(root):
    """The public face needs the standard library and itself only."""
    for path in code_files(root, "include"):
        name, text = name_of(root, path), path.read_text()
        for own, system in _INCLUDE.findall(text):
            standard = system in _PUBLIC_C if path.suffix == ".h" else "." not in system
            if own or not (standard or system == "faultline/faultline.h"):
                yield f"{name} includes {own or system}: it must stand alone"
        for match in re.finditer(r"\b(absl::|uv_|fmt::|nlohmann)\w*", text):
            yield f"{name} names {match.group()}: no such type is public"


CHECKS = [direction, public_headers]
