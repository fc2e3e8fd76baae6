"""qemu-user 10 and an arm64 Debian to run under it, in one folder, without root, chroot, mounts or binfmt_misc.

qemu translates one program's instructions and looks each file up in the root first (``-L``), so nothing has to be
installed on this machine. Debian 12's own qemu 7.2 crashes in ONNX Runtime; Debian 13's is linked statically and runs
anywhere. Both come with the checks that apt would make: the release file's signature, then SHA-256.
"""

import hashlib
import lzma
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.aarch64.shell import need, run, unpack
from firmware_bridge.errors import BadInput

MIRROR = "http://deb.debian.org/debian"
SUITE, PYTHON = "bookworm", "3.11"  # what Raspberry Pi OS 12 is made from
QEMU_SUITE, QEMU_LEAST = "trixie", 10
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = ("python3", "libstdc++6")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Emulator:
    """``python`` runs a command line of the root's Python, with packages from ``site``."""

    qemu: Path
    root: Path
    site: Path

    def command(self, arguments: Sequence[str]) -> list[str | Path]:
        """The command line for this machine: -P keeps the current folder off the path."""
        return [self.qemu, "-L", self.root, self.root / "usr" / "bin" / f"python{PYTHON}", "-s", "-P", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of this machine's, so that its Python finds only the root's packages and ``site``."""
        return {"PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", "HOME": "/root"}

    @property
    def version(self) -> str:
        """qemu's own words."""
        return run([self.qemu, "--version"], what="qemu").splitlines()[0]


def prepare(folder: Path, mirror: str, qemu: Path | None, say: Say) -> Emulator:
    """What is not yet in ``folder`` is fetched and unpacked. Raises :class:`BadInput`."""
    folder.mkdir(parents=True, exist_ok=True)
    if qemu is None:
        qemu = folder / "qemu" / "usr" / "bin" / "qemu-aarch64"
        if not qemu.exists():
            _fetch_qemu(folder, mirror, say)
    found = re.search(r"version (\d+)", run([qemu, "--version"], what="qemu"))
    if found is None or int(found[1]) < QEMU_LEAST:
        raise BadInput(f"--qemu {qemu}: is older than {QEMU_LEAST}, and older ones crash in ONNX Runtime")
    root = folder / "root"
    if not root.exists():
        _make_root(folder, root, mirror, say)
    return Emulator(qemu, root, folder / "site")


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data: bytes = answer.read()
            return data
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise BadInput(f"bench aarch64: {url}: cannot be fetched ({reason}); give another --mirror") from None


def _fetch_qemu(folder: Path, mirror: str, say: Say) -> None:
    need("gpgv", "dpkg-deb")
    say(f"fetching qemu-user of Debian {QEMU_SUITE} (71 MB)")
    architecture = run(["dpkg", "--print-architecture"], what="dpkg").strip()
    index = f"main/binary-{architecture}/Packages.xz"
    release = _release(folder, mirror)
    packages = _download(f"{mirror}/dists/{QEMU_SUITE}/{index}")
    listed = re.search(rf"^ ([0-9a-f]{{64}}) +\d+ {re.escape(index)}$", release, re.MULTILINE)
    if listed is None or hashlib.sha256(packages).hexdigest() != listed[1]:
        raise BadInput(f"bench aarch64: {index} is not what {QEMU_SUITE}'s release file says; try again")
    fields = _stanza(lzma.decompress(packages).decode(), "qemu-user")
    data = _download(f"{mirror}/{fields['Filename']}")
    if hashlib.sha256(data).hexdigest() != fields["SHA256"]:
        raise BadInput(f"bench aarch64: {fields['Filename']} does not have its SHA-256; try again")
    fresh = folder / "qemu.unfinished"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    deb = fresh / "qemu-user.deb"
    deb.write_bytes(data)
    unpack(deb, fresh, ["./usr/bin/qemu-aarch64"])
    deb.unlink()
    fresh.rename(folder / "qemu")


def _release(folder: Path, mirror: str) -> str:
    """The suite's release file, its signature checked."""
    if not KEYRING.exists():
        raise BadInput(f"bench aarch64: {KEYRING} is missing; on Debian: sudo apt install debian-archive-keyring")
    signed, plain = folder / "InRelease", folder / "Release"
    signed.write_bytes(_download(f"{mirror}/dists/{QEMU_SUITE}/InRelease"))
    try:
        run(["gpgv", "--keyring", KEYRING, "--output", plain, signed], what=f"the signature of {mirror}'s release file")
        return plain.read_text()
    finally:
        signed.unlink()
        plain.unlink(missing_ok=True)


def _stanza(packages: str, name: str) -> dict[str, str]:
    """The fields of one package in a Debian index."""
    for stanza in packages.split("\n\n"):
        if stanza.startswith(f"Package: {name}\n"):
            pairs = (line.partition(": ") for line in stanza.splitlines() if not line.startswith(" "))
            return {key: value for key, _, value in pairs}
    raise BadInput(f"bench aarch64: {QEMU_SUITE} has no package {name} for this machine; give --qemu")


def _make_root(folder: Path, root: Path, mirror: str, say: Say) -> None:
    """debootstrap's first stage fetches and checks the packages; unpacking them is all that Python needs. Its second
    stage would run the packages' scripts, which takes root, a chroot and binfmt_misc."""
    rootless = os.geteuid() != 0
    need("debootstrap", "dpkg-deb", *(["fakeroot"] if rootless else []))
    fresh, debs = folder / "root.unfinished", folder / "debs"
    shutil.rmtree(fresh, ignore_errors=True)
    debs.mkdir(exist_ok=True)
    say(f"fetching Debian {SUITE} for arm64 (about 100 packages)")
    command = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--cache-dir={debs.resolve()}", SUITE, str(fresh.resolve()), mirror]
    run([*(["fakeroot"] if rootless else []), *command], what="debootstrap")
    say("unpacking Debian")
    for deb in sorted((fresh / "var/cache/apt/archives").glob("*.deb")):
        unpack(deb, fresh)
    fresh.rename(root)
