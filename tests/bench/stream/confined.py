# SPDX-License-Identifier: MIT
"""A memory limit for programs (cgroup v1), and what the kernel counted of them."""
import contextlib
import os
import pathlib

ROOT = pathlib.Path("/sys/fs/cgroup/memory")


class Confined:
    """A cgroup with a limit.  Start a program in it by preexec_fn=confined.join."""

    def __init__(self, limit):
        self.path = ROOT / f"sluice-bench-{os.getpid()}"
        with contextlib.suppress(FileExistsError):
            self.path.mkdir()
        self.write("memory.limit_in_bytes", limit)
        self.write("memory.failcnt", 0)
        self.write("memory.max_usage_in_bytes", 0)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def read(self, name):
        return int((self.path / name).read_text())

    def join(self):
        self.write("cgroup.procs", os.getpid())

    def close(self):
        self.write("memory.force_empty", 0)
        self.path.rmdir()


def drop(path):
    """The page cache forgets a file, or the files in a directory."""
    path = pathlib.Path(path)
    for file in path.iterdir() if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def usage(pid):
    """(major faults, bytes read from drives) of a process so far."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    io = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(stat[9]), int(io["read_bytes"])


@contextlib.contextmanager
def read_ahead(path, kib):
    """What the kernel reads around a fault of a file on PATH's drive, meanwhile; None: as it is."""
    device = os.stat(path).st_dev
    link = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    setting = (link.parent if (link / "partition").exists() else link) / "queue/read_ahead_kb"
    before = setting.read_text()
    if kib is not None:
        setting.write_text(str(kib))
    try:
        yield
    finally:
        setting.write_text(before)
