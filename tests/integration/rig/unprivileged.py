"""QEMU, or everything, as a user without rights."""

import glob
import os
import pathlib
import shutil
from unittest import mock

from . import paths
from .small import SmallVmCase

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


class UnprivilegedCase(SmallVmCase):
    """Lays everything that such a user needs where they may read and write."""

    def setUp(self):
        super().setUp()
        for folder in (self.workdir, self.ramdir):
            os.chmod(folder, 0o777)
        self.publish()

    def publish(self):
        """Copies what QEMU needs to where everybody may read: the tree may lie in a private folder."""
        for name in ("HOOK", "FAULTLINE"):
            copy = pathlib.Path(shutil.copy(getattr(paths, name), self.workdir))
            self.enterContext(mock.patch.object(paths, name, copy))
        qemu = paths.qemu()
        if qemu == paths.SYSTEM_QEMU:
            return
        tree = os.path.dirname(qemu)
        public = shutil.copytree(tree, os.path.join(self.workdir, "qemu"), symlinks=True)
        wrapper = pathlib.Path(public, os.path.basename(qemu))
        wrapper.write_text(wrapper.read_text().replace(tree, public))
        self.enterContext(mock.patch.dict(os.environ, FAULTLINE_QEMU=str(wrapper)))

    def unprivileged(self, name="dst", incoming=True):
        """A started VM of that user."""
        vm = self.small(name, incoming=incoming, wrap=AS_NOBODY)
        for path in (vm.serial.path, *glob.glob(self.workdir + "/*.img")):
            os.chmod(path, 0o777)
        return vm.start()
