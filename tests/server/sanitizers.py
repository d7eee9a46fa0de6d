"""A program built with sanitizers is slow, and what they find in it fails the test that ran it.

Imported for its effect: whatever the programs under test report is printed at the end, and the exit status is 1 then, however the
programs themselves ended."""

import atexit
import mmap
import os
import pathlib
import shutil
import sys
import tempfile


def sanitizer_of(program):
    """"address", "thread", or nothing."""
    with open(program, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        return next((name for name, symbol in (("address", b"__asan_init"), ("thread", b"__tsan_init")) if image.find(symbol) >= 0), None)


SANITIZER = sanitizer_of(sys.argv[1])
# How many times as long a test waits before it gives up.
SLOWDOWN = {None: 1, "address": 5, "thread": 15}[SANITIZER]


def collect_reports():
    folder = tempfile.mkdtemp(prefix="sanitizers")
    for variable in ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
        os.environ[variable] = ":".join(filter(None, (os.environ.get(variable), f"log_path={folder}/report")))
    os.environ["UBSAN_OPTIONS"] += ":print_stacktrace=1"

    @atexit.register
    def tell():
        reports = [path.read_text(errors="replace") for path in sorted(pathlib.Path(folder).iterdir())]
        shutil.rmtree(folder)
        if reports:
            print(*(report[:20000] for report in reports[:5]), f"{len(reports)} programs were reported", sep="\n", file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(1)


if SANITIZER:
    collect_reports()
