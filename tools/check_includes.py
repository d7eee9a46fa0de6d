#!/usr/bin/env python3
"""Checks that the rooms include each other in one direction only, and that CUDA stays behind its header.

    tools/check_includes.py [ROOT]

Every quoted include is rooted at the repository, exists, and names a room that the file's own room may see.
What the CUDA emulation cannot follow (inline assembly, <<<>>>, __shared__) stands in the device header alone.
Prints one line for each offence; exit status 1 if there is any.
"""
import pathlib
import re
import sys

MAY_INCLUDE = {
    "kernels": {"kernels"},
    "kvcache": {"kvcache", "kernels"},
    "scheduler": {"scheduler", "kvcache", "kernels"},
    "engine": {"engine", "scheduler", "kvcache", "kernels"},
    "accounts": {"accounts", "engine", "scheduler", "kvcache", "kernels"},
    "server": {"server", "accounts", "engine", "scheduler", "kvcache", "kernels"},
    "tools": {"tools", "server", "accounts", "engine", "scheduler", "kvcache", "kernels"},
    "examples": {"engine", "scheduler", "kvcache", "kernels"},
    "tests": {"tests", "tools", "server", "accounts", "engine", "scheduler", "kvcache", "kernels"},
}
SUFFIXES = {".h", ".cpp", ".inc", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)

CUDA_FOLDERS = ("kernels/cuda", "tests/cuda", "tools/gpu_check")
DEVICE_HEADER = re.compile(r"kernels/cuda/(device\w*\.h|emulation/.*)")
RAW_CUDA = re.compile(r"\b__asm|\basm\b|<<<|\b__shared__\b")


def raw_cuda(root):
    for folder in CUDA_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix not in SUFFIXES or DEVICE_HEADER.fullmatch(name):
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                found = RAW_CUDA.search(line.split("//")[0])
                if found:
                    yield f"{name}:{number}: {found.group(0)} belongs into kernels/cuda/device*.h"


def offences(root):
    for room, seen in MAY_INCLUDE.items():
        for path in sorted((root / room).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            text = path.read_text(encoding="utf-8")
            for match in INCLUDE.finditer(text):
                target = match.group(1)
                line = text.count("\n", 0, match.start(1)) + 1
                where = f"{path.relative_to(root)}:{line}"
                if not (root / target).is_file():
                    yield f"{where}: \"{target}\" is not a file of the repository (includes are rooted there)"
                elif target.split("/")[0] not in seen:
                    yield f"{where}: {room}/ may not include \"{target}\" (it may see {', '.join(sorted(seen))})"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    found = [*offences(root), *raw_cuda(root)]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
