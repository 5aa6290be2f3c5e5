"""Certificates and keys for tests, made with the commands of docs/operators-guide.md."""

import os
import secrets
import shutil

from .process import run

_NEW = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """A folder with an authority of its own; `folder(...)` makes what a host needs."""

    def __init__(self, directory, name="VM migration"):
        self.directory = directory
        os.makedirs(directory)
        run(*_NEW, "-days", "30", "-subj", f"/CN={name}", "-keyout", self._path("ca-key.pem"),
            "-out", self._path("ca-cert.pem"))

    def _path(self, name):
        return os.path.join(self.directory, name)

    def folder(self, name, hosts="IP:127.0.0.1", sides=("server", "client")):
        """A --tls-dir with certificates for that host."""
        folder = self._path(name)
        os.makedirs(folder)
        shutil.copy(self._path("ca-cert.pem"), folder)
        for side in sides:
            run(*_NEW, "-days", "30", "-CA", self._path("ca-cert.pem"), "-CAkey",
                self._path("ca-key.pem"), "-subj", f"/CN={name}-{side}", "-addext",
                f"subjectAltName={hosts}", "-addext", "basicConstraints=CA:FALSE", "-keyout",
                os.path.join(folder, f"{side}-key.pem"), "-out",
                os.path.join(folder, f"{side}-cert.pem"))
        return folder


def psk_file(path, identity="vms", key=None):
    """A private file with one key."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(f"{identity}:{key or secrets.token_hex(32)}\n")
    return path
