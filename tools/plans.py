#!/usr/bin/env python3
"""Holds what `redline plan` says of this machine against running the load.

    tools/plans.py MODEL [--alone] [--full BATCH,..] [--rates R,..] [--input-len N] [--output-len N] [--prompts N] [--turns N]
                   [--redline PATH] [--append FILE]

With `--alone`, `redline plan` and then `redline bench load` with one request after the other: mean TTFT and TPOT. With `--full`, a load that
arrives all at once on an engine of BATCH sequences: output tokens per second of a full batch. For each rate, requests that arrive at random: mean TTFT
and TPOT, which need hundreds of requests on a machine that does nothing else, since arrivals cluster. Turns alternate
prediction and measurement with other seeds. A row of JSON a figure: the medians of predicted and measured, of their quotient (measured /
predicted) the extremes, and whether the median is within 15 % of 1. A machine that does something else meanwhile measures something else.
`--append` adds the rows to FILE, as docs/bench/plan.jsonl."""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

WITHIN = 0.15


def redline(options, *words):
    done = subprocess.run([options.redline, *map(str, words), "--json"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def lengths(options):
    return ["--input-len", options.input_len, "--output-len", options.output_len]


def at_rate(options, rate, turn):
    """[(figure, predicted, measured)]"""
    said = redline(options, "plan", options.model, "--rate", rate, *lengths(options))
    if said["devices"] != 1:
        sys.exit(f"{rate} requests a second need {said['devices']} devices: a lower rate")
    load = redline(options, "bench", "load", options.model, "--ignore-eos", "-c", 4096, "--request-rate", rate, "--num-prompts", options.prompts,
                   "--num-warmups", 2, "--seed", turn, *lengths(options))
    return [("ttft_s", said["ttft_s"], load["mean_ttft_ms"] / 1e3), ("tpot_s", said["tpot_s"], load["mean_tpot_ms"] / 1e3)]


def alone(options, turn):
    said = redline(options, "plan", options.model, *lengths(options))
    load = redline(options, "bench", "load", options.model, "--ignore-eos", "-c", 4096, "--max-concurrency", 1, "--num-prompts", options.prompts, "--num-warmups", 2,
                   "--seed", turn, *lengths(options))
    return [("ttft_s", said["ttft_s"], load["mean_ttft_ms"] / 1e3), ("tpot_s", said["tpot_s"], load["mean_tpot_ms"] / 1e3)]


def full(options, batch, turn):
    flags = ["--max-num-seqs", batch]
    said = redline(options, "plan", options.model, *flags, *lengths(options))
    load = redline(options, "bench", "load", options.model, "--ignore-eos", "-c", 4096, "--num-prompts", max(options.prompts, 4 * batch), "--num-warmups", 2,
                   "--seed", turn, *flags, *lengths(options))
    return [("tokens_per_s", said["most"]["tokens_per_s"], load["output_throughput"])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rates", default="")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--full", default="")
    parser.add_argument("--input-len", type=int, default=256)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--redline", default="build/release/redline")
    parser.add_argument("--append", type=pathlib.Path)
    options = parser.parse_args()
    points = [({"rate": float(rate)}, lambda turn, rate=rate: at_rate(options, rate, turn)) for rate in options.rates.split(",") if rate]
    points += [({"batch": int(batch)}, lambda turn, batch=int(batch): full(options, batch, turn)) for batch in options.full.split(",") if batch]
    if options.alone:
        points.append(({"batch": 1}, lambda turn: alone(options, turn)))
    if not points:
        parser.error("give --alone, --full or --rates")
    found = {}
    for turn in range(options.turns):
        for index, (_, run) in enumerate(points):
            for figure, said, measured in run(turn):
                found.setdefault((index, figure), []).append((said, measured))
                print(f"{points[index][0]} {figure}: said {said:.4g}, is {measured:.4g}", file=sys.stderr)
    probe = redline(options, "probe")
    rows = []
    for (index, figure), pairs in found.items():
        quotients = sorted(measured / said for said, measured in pairs)
        middle = statistics.median(quotients)
        rows.append({"date": datetime.date.today().isoformat(), "cpu": probe["device"], "isa": probe["isa"], "model": pathlib.Path(options.model).name, "test": "plan",
                     **points[index][0], "input_len": options.input_len, "output_len": options.output_len, "figure": figure, "turns": len(pairs),
                     "predicted": round(statistics.median(said for said, _ in pairs), 5), "measured": round(statistics.median(is_ for _, is_ in pairs), 5),
                     "quotient": {"least": round(quotients[0], 3), "median": round(middle, 3), "most": round(quotients[-1], 3)},
                     "within_15_percent": abs(middle - 1) <= WITHIN})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    sys.stdout.write(lines)
    if options.append:
        with options.append.open("a") as file:
            file.write(lines)


if __name__ == "__main__":
    main()
