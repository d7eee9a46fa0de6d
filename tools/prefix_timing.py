#!/usr/bin/env python3
"""Tries to tell by the clock whether another tenant has asked for a prompt before.

    tools/prefix_timing.py REDLINE MODEL [--trials N] [--prefix-tokens N] [--record FILE]

A spy times the first token of a prompt that somebody asked for just before, or did not (then they asked for another one as long), in an
order that is drawn. Twice: the somebody is another tenant, and, to see that the clock would tell, the spy's own. Prints how often a
prompt that was asked for answers faster than one that was not (the area under the classifier's curve: 0.5 is guessing, 1 is certainty), with
the p-value of a permutation test. A measurement, for a machine that does nothing else; tests/server/isolation_test.py holds the same of
counted work."""

import argparse
import datetime
import http.client
import json
import os
import random
import statistics
import subprocess
import time

TENANTS = {"victim": "key-of-victim", "spy": "key-of-spy"}
NUM_PERMUTATIONS = 10000


class Server:
    def __init__(self, redline, model):
        keys = [flag for name, key in TENANTS.items() for flag in ("--api-key", f"{name}={key}")]
        self.process = subprocess.Popen([redline, "serve", model, "--port", "0", "--served-model-name", "m", *keys], stderr=subprocess.PIPE, text=True)
        line = next((line for line in self.process.stderr if " is served at " in line), None)
        if line is None:
            raise SystemExit("the server did not start")
        self.port = int(line.rsplit(":", 1)[1])

    def first_token_s(self, prompt, tenant):
        """Seconds from the request to the first byte of its first event."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.connect()
        body = json.dumps({"prompt": prompt, "max_tokens": 1, "stream": True, "stream_options": {"include_usage": True}})
        start = time.perf_counter()
        connection.request("POST", "/v1/completions", body, {"X-Api-Key": TENANTS[tenant]})
        response = connection.getresponse()
        response.read(1)
        seconds = time.perf_counter() - start
        assert response.status == 200, response.read()
        response.read()
        connection.close()
        return seconds


def auc(asked, other):
    """The share of pairs in which the first is faster."""
    return statistics.fmean((a < b) + (a == b) / 2 for a in asked for b in other)


def p_value(asked, other, rng):
    """Of the hypothesis that both are alike: how often a random division lies as far from one half."""
    ranks = {value: rank for rank, value in enumerate(sorted(asked + other))}
    values, count = [ranks[value] for value in asked + other], len(asked)
    middle = count * (len(values) - 1) / 2
    found = abs(sum(values[:count]) - middle)
    return (1 + sum(abs(sum(rng.sample(values, count)) - middle) >= found for _ in range(NUM_PERMUTATIONS))) / (1 + NUM_PERMUTATIONS)


def measure(server, owner, trials, prefix_tokens, rng):
    prompt = lambda: [rng.randrange(1000, 40000) for _ in range(prefix_tokens)]
    order = [True, False] * (trials // 2)
    rng.shuffle(order)
    seconds = {True: [], False: []}
    for was_asked in order:
        asked, other = prompt(), prompt()
        server.first_token_s(asked if was_asked else other, owner)
        seconds[was_asked].append(server.first_token_s(asked, "spy"))
    return {"auc": round(auc(seconds[True], seconds[False]), 3), "p": round(p_value(seconds[True], seconds[False], rng), 4),
            "median_ms": {"asked": round(1e3 * statistics.median(seconds[True]), 2), "other": round(1e3 * statistics.median(seconds[False]), 2)}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("redline")
    parser.add_argument("model")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--prefix-tokens", type=int, default=128)
    parser.add_argument("--record")
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    server = Server(options.redline, options.model)
    try:
        row = {"date": datetime.date.today().isoformat(), "test": "prefix_timing", "model": os.path.basename(options.model), "cores": os.cpu_count(),
               "load_average": round(os.getloadavg()[0], 1), "trials": options.trials, "prefix_tokens": options.prefix_tokens, "seed": seed,
               "another_tenant": measure(server, "victim", options.trials, options.prefix_tokens, rng),
               "own_tenant": measure(server, "spy", options.trials, options.prefix_tokens, rng)}
    finally:
        server.process.terminate()
        server.process.wait(60)
    if options.note:
        row["note"] = options.note
    print(json.dumps(row))
    if options.record:
        with open(options.record, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
