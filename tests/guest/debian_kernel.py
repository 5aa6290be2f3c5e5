"""A kernel of Debian's with a few of its modules, unpacked and never installed."""

import pathlib
import shutil
import subprocess


def _apt(out, *words):
    subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", *words], check=True, cwd=out,
                   stdout=subprocess.DEVNULL)


def _versioned(package):
    """The versioned package that Debian's kernel name stands for."""
    text = subprocess.run(["apt-cache", "depends", package], check=True, text=True,
                          capture_output=True).stdout
    for line in text.splitlines():
        word = line.split()[-1] if line.split() else ""
        if word.startswith("linux-image-") and word != package:
            return word
    raise SystemExit(f"apt-cache knows no {package}: run apt-get update")


def fetch_kernel(package, modules, out):
    """Leaves out/vmlinuz and out/modules/NAME.ko, if they are not all there.

    `package` is a name like linux-image-amd64, `modules` are paths in its tree of modules.
    """
    wanted = [out / "modules" / f"{pathlib.Path(name).name}.ko" for name in modules]
    if (out / "vmlinuz").exists() and all(path.exists() for path in wanted):
        return
    archive_package = _versioned(package)
    print(f"guest: unpacking {archive_package} into {out}", flush=True)
    try:
        _apt(out, "download", archive_package)
    except subprocess.CalledProcessError:
        _apt(out, "update")  # the lists were older than the archive
        archive_package = _versioned(package)
        _apt(out, "download", archive_package)
    tree = out / "kernel"
    archive = next(out.glob(f"{archive_package}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", archive, tree], check=True)
    (out / "modules").mkdir(exist_ok=True)
    base = next((tree / "lib" / "modules").iterdir()) / "kernel"
    for name in modules:
        shutil.copy(base / f"{name}.ko", out / "modules")
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), out / "vmlinuz")
    shutil.rmtree(tree)
    archive.unlink()
