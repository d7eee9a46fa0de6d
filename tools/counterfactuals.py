#!/usr/bin/env python3
"""Holds what `redline bench --explain` says a change would give against making the change.

    tools/counterfactuals.py MODEL [--pairs N] [--depth D] [--tokens N] [--redline PATH] [--append FILE]

In each pair a process runs decode as it is, with its prediction of every change, then one runs decode so changed; the
changes take turns. A row of JSON a change: the median of predicted and of measured speedups, of their quotient
(measured / predicted) the quartiles and extremes, and whether the median quotient is within 15 % of 1. A machine that
does something else meanwhile measures something else. `--append` adds the rows to FILE, as docs/bench/counterfactuals.jsonl."""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

WITHIN = 0.15


def bench(options, flags):
    command = [options.redline, "bench", options.model, "-p", "512", "-n", str(options.tokens), "-r", "1", "--json", "--explain"] + flags
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return next(row for row in rows if row["n_gen"] > 0)


def changes(base):
    """Of the predictions, those that flags can make: what is said, and the flags."""
    decode = next(why for why in base["explanation"]["why"] if why["phase"] == "decode")
    for change in decode["would_give"]:
        name, word = change["change"], change["change"].split()[0]
        if name.startswith("batch "):
            yield name, ["--batch", name.split()[1].replace(",", "")]
        elif name.endswith(" weights"):
            yield name, ["--dtype", word]
        elif name.endswith(" cache"):
            yield name, ["--kv-dtype", word]
        elif name == "half the context":
            yield name, None


def predicted(base, name):
    decode = next(why for why in base["explanation"]["why"] if why["phase"] == "decode")
    return next(change for change in decode["would_give"] if change["change"] == name)


def quantiles(values):
    if len(values) < 2:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--depth", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--redline", default="build/release/redline")
    parser.add_argument("--append", type=pathlib.Path)
    options = parser.parse_args()
    at_depth = ["-d", str(options.depth)]
    # The mean depth of a row's decode steps lies in its middle.
    half = ["-d", str(max(0, (options.depth + options.tokens // 2) // 2 - options.tokens // 2))]
    plans = list(changes(bench(options, at_depth)))
    pairs = {name: [] for name, _ in plans}
    for turn in range(options.pairs):
        for name, flags in plans if turn % 2 == 0 else reversed(plans):
            before = bench(options, at_depth)
            after = bench(options, half if flags is None else at_depth + flags)
            said = predicted(before, name)
            pairs[name].append((said["speedup"], after["avg_ts"] / before["avg_ts"], said["at_most"]))
            print(f"{name}: said {said['speedup']:.2f}x, is {pairs[name][-1][1]:.2f}x", file=sys.stderr)
    probe = json.loads(subprocess.run([options.redline, "probe", "--json"], check=True, capture_output=True, text=True).stdout)
    rows = []
    for name, measured in pairs.items():
        quotients = sorted(is_ / said for said, is_, _ in measured)
        low, middle, high = quantiles(quotients)
        rows.append({"date": datetime.date.today().isoformat(), "cpu": probe["device"], "isa": probe["isa"], "model": pathlib.Path(options.model).name,
                     "test": "counterfactual", "threads": before["threads"], "depth": options.depth, "change": name, "pairs": len(measured),
                     "predicted": round(statistics.median(said for said, _, _ in measured), 3), "at_most": any(bound for _, _, bound in measured),
                     "measured": round(statistics.median(is_ for _, is_, _ in measured), 3),
                     "quotient": {"least": round(quotients[0], 3), "lower": round(low, 3), "median": round(middle, 3), "upper": round(high, 3), "most": round(quotients[-1], 3)},
                     "within_15_percent": abs(middle - 1) <= WITHIN})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    sys.stdout.write(lines)
    if options.append:
        with options.append.open("a") as file:
            file.write(lines)


if __name__ == "__main__":
    main()
