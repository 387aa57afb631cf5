# SPDX-License-Identifier: MIT
"""llama.cpp as a peer: fetched and built into a folder, models of the same shapes for both, and a
process that does what it is told.  `run` and tests/bench/stream/shares use it."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import make_gguf as gguf

HERE = pathlib.Path(__file__).resolve().parent
# node-llama-cpp's packages have llama.cpp's released libraries, for every processor, and its source.
PACKAGES = "3.22.1"
LIBRARIES = f"@node-llama-cpp/linux-x64@{PACKAGES}"
SOURCE = f"node-llama-cpp@{PACKAGES}"
OTHER_TYPE = "q8_0"


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- llama.cpp -------------------------------------------------------------------------------

def unpack(package, into, prefix):
    """The files of an npm package whose paths begin with PREFIX."""
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=into, check=True,
                          stdout=subprocess.PIPE, text=True)
    archive = into / done.stdout.split()[-1]
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.isfile() and member.name.startswith(prefix):
                target = into / pathlib.Path(member.name).name
                with tar.extractfile(member) as data, open(target, "wb") as out:
                    shutil.copyfileobj(data, out)
    archive.unlink()


def set_up(cache):
    """llama.cpp's libraries and headers, and llama_bench built against them: its path, the version"""
    home = cache / f"llama-{PACKAGES}"
    lib, source = home / "lib", home / "source"
    if not (source / "include").exists():
        shutil.rmtree(home, ignore_errors=True)
        lib.mkdir(parents=True)
        source.mkdir()
        say(f"fetching {LIBRARIES} and {SOURCE} into {home}")
        unpack(LIBRARIES, lib, "package/bins/linux-x64/")
        unpack(SOURCE, source, "package/llama/gitRelease.bundle")
        git = ["git", "-C", source]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "fetch", "-q", "gitRelease.bundle", "HEAD"], check=True)
        subprocess.run([*git, "checkout", "-q", "FETCH_HEAD", "--", "include", "ggml/include"],
                       check=True)
    program = home / "llama_bench"
    libraries = [*lib.glob("libllama.v*.so"), *lib.glob("libggml.v*.so"), lib / "libggml-base.so"]
    subprocess.run(
        ["cc", "-O2", HERE / "llama_bench.c", "-o", program, f'-DLLAMA_LIBRARIES="{lib}"',
         f"-I{source}/include", f"-I{source}/ggml/include", *libraries, f"-Wl,-rpath,{lib}"],
        check=True)
    build = json.loads((lib / "_nlcBuildMetadata.json").read_text())
    return program, build["buildOptions"]["llamaCpp"]["release"]


class Llama:
    """A running llama_bench, which has the model loaded."""

    def __init__(self, program, model, threads, context, settings, first=None):
        """FIRST: called in the new process before anything else."""
        command = [program, model, threads, context, *settings]
        self.process = subprocess.Popen([str(word) for word in command], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=first)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("run: llama_bench ended early")
        return line

    def seconds(self, what, n):
        self.process.stdin.write(f"{what} {n}\n")
        self.process.stdin.flush()
        return float(self.answer())

    def speed(self, test):
        return int(test[2:]) / self.seconds(test[:2], int(test[2:]))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- models ----------------------------------------------------------------------------------

def shapes(args):
    return f"{args.like}-{args.layers}-{args.experts}-{args.vocab}"


def make_container(args, cache):
    """A container's path."""
    ours = cache / f"{shapes(args)}-{args.profile}"
    subprocess.run(
        [args.sluice, "synth", ours, "--like", args.like, "--layers", args.layers, "--experts",
         str(args.experts), "--vocab", str(args.vocab), "--profile", args.profile],
        check=True, stdout=sys.stderr)
    return ours


def make_models(args, cache):
    """A GGUF and a container of the same shapes: path, path, tensors of the first."""
    arch = {"v3": "deepseek2", "v3.2": "deepseek32"}[args.like]
    dense, moe = (int(n) for n in args.layers.split("+"))
    table = gguf.tensors(arch, dense, moe, args.experts, args.vocab, args.expert_type, OTHER_TYPE)
    theirs = cache / f"{shapes(args)}-{args.expert_type}.gguf"
    if not theirs.exists():
        say(f"making {theirs}")
        part = theirs.with_suffix(".part")
        gguf.write(part, arch, dense, moe, args.experts, args.vocab, table)
        part.rename(theirs)
    return theirs, make_container(args, cache), table
