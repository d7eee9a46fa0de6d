#!/usr/bin/env python3
"""How tokenizing grows with the text: 1 MiB against 256 KiB of one character, of random bytes and of random words.

    tools/tokenizer_scaling.py REDLINE MODEL [--record docs/bench/tokenizer.jsonl]

Times `redline tokenize` as a process (the best of three), less what it takes for one byte. The aim: under six times, and
about a second."""

import datetime
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

redline, model = sys.argv[1:3]
record = sys.argv[4] if sys.argv[3:4] == ["--record"] else None
random.seed(1)
word = lambda: "".join(random.choices("abcdefghij", k=random.randint(1, 9)))
TEXTS = {
    "a": lambda n: b"a" * n, "space": lambda n: b" " * n, "newline": lambda n: b"\n" * n, "7": lambda n: b"7" * n,
    "!": lambda n: b"!" * n, "U+4E2D": lambda n: "\u4e2d".encode() * (n // 3), "U+1F600": lambda n: "\U0001f600".encode() * (n // 4),
    "random bytes": random.randbytes, "random words": lambda n: " ".join(word() for _ in range(n // 5)).encode()[:n],
}


def seconds(text):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([redline, "tokenize", model, "-f", file.name, "--json"], stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - start)
        return min(times)


start = seconds(b"a")
for name, text in TEXTS.items():
    quarter, whole = (seconds(text(n)) - start for n in (1 << 18, 1 << 20))
    print(f"{name:14} 256 KiB {quarter:.3f} s, 1 MiB {whole:.3f} s, {whole / quarter:.1f} times")
    if record:
        row = {"date": str(datetime.date.today()), "model": pathlib.Path(model).name, "text": name,
               "seconds_256_kib": round(quarter, 3), "seconds_1_mib": round(whole, 3), "ratio": round(whole / quarter, 2)}
        with open(record, "a") as out:
            out.write(json.dumps(row) + "\n")
