#!/usr/bin/env python3
"""Puts `redline serve` and llama.cpp's server under the same load, one after the other in turn, on the same file and threads.

    tools/compare_servers.py LLAMA_SERVER [--redline PROGRAM] [--model GGUF] [--threads N] [--concurrency N] [--rounds N]
                             [--requests N] [--input-len N] [--output-len N] [--prefix-len N] [--record] [--note TEXT]

`redline bench serve` drives both; each round asks something new. While one works the other is stopped (SIGSTOP). Prints medians and
the median of the rounds' ratios, of tokens a second and of tokens a second of the server's own processor time: with --threads 1 the
latter says something on a busy machine too. --record appends them to docs/bench/serve.jsonl."""

import argparse
import datetime
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[1]


class Server:
    def __init__(self, name, command, port):
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(1200):
            try:
                if urllib.request.urlopen(self.url + "/health", timeout=5).status == 200:
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            if self.process.poll() is not None:
                self.log.seek(0)
                raise SystemExit(f"{name} did not start: {self.log.read()[-2000:]}")
            time.sleep(0.1)
        self.pause()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.resume()
        self.process.terminate()
        self.process.wait(60)


def measure(options, server, seed):
    server.resume()
    before = server.cpu_seconds()
    out = subprocess.run(
        [options.redline, "bench", "serve", server.url, "--num-prompts", str(options.requests), "--max-concurrency", str(options.concurrency),
         "--input-len", str(options.input_len), "--output-len", str(options.output_len), "--prefix-len", str(options.prefix_len),
         "--num-warmups", "1", "--ignore-eos", "--seed", str(seed), "--json"], capture_output=True, text=True, check=True).stdout
    server.pause()
    result = json.loads(out)
    result["tokens_per_cpu_s"] = (result["total_input_tokens"] + result["total_output_tokens"]) / (server.cpu_seconds() - before)
    assert result["failed"] == 0 and result["completed"] == options.requests, result["failures"]
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("llama_server")
    parser.add_argument("--redline", default=str(TOP / "build/release/redline"))
    parser.add_argument("--model", default=str(pathlib.Path.home() / ".cache/redline/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--prefix-len", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--note", default="")
    options = parser.parse_args()

    context = options.input_len + options.prefix_len + options.output_len + 64
    servers = []
    try:
        servers.append(Server("redline", [options.redline, "serve", options.model, "--port", "18101", "--threads", str(options.threads)], 18101))
        servers.append(Server("llama.cpp", [
            options.llama_server, "-m", options.model, "--port", "18102", "-t", str(options.threads), "-tb", str(options.threads),
            "-np", str(options.concurrency), "-c", str(context * options.concurrency)], 18102))
        rounds, loads = [], []
        for i in range(options.rounds):
            order = servers if i % 2 == 0 else servers[::-1]
            rounds.append({server.name: measure(options, server, 7919 * (i + 1)) for server in order})
            loads.append(os.getloadavg()[0])
            print(f"round {i + 1}: " + ", ".join(f"{s.name} {rounds[-1][s.name]['total_token_throughput']:.0f} tokens/s, {rounds[-1][s.name]['tokens_per_cpu_s']:.0f} a processor's second" for s in servers), flush=True)
    finally:
        for server in servers:
            server.stop()

    def median(name, key):
        return round(statistics.median(r[name][key] for r in rounds), 2)

    def ratios(key):
        each = sorted(r["redline"][key] / r["llama.cpp"][key] for r in rounds)
        return {"median": round(statistics.median(each), 2), "min": round(each[0], 2), "max": round(each[-1], 2)}

    last = rounds[-1]["redline"]["utilization"]
    row = {"date": datetime.date.today().isoformat(), "test": "compare_servers",
           "cpu": re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()).group(1), "threads": options.threads,
           "model": os.path.basename(options.model), "concurrency": options.concurrency, "requests": options.requests,
           "input_len": options.input_len, "output_len": options.output_len, "prefix_len": options.prefix_len, "rounds": len(rounds),
           "load_average": round(statistics.median(loads), 1),
           "total_tokens_per_s": {name: median(name, "total_token_throughput") for name in rounds[0]},
           "output_tokens_per_s": {name: median(name, "output_throughput") for name in rounds[0]},
           "median_ttft_ms": {name: median(name, "median_ttft_ms") for name in rounds[0]},
           "median_tpot_ms": {name: median(name, "median_tpot_ms") for name in rounds[0]},
           "tokens_per_cpu_s": {name: median(name, "tokens_per_cpu_s") for name in rounds[0]},
           "ratio": ratios("total_token_throughput"), "ratio_cpu": ratios("tokens_per_cpu_s"),
           "redline_mfu": last["mfu"], "redline_mbu": last["mbu"], "redline_kv_block_utilization": last["kv_block_utilization"],
           "redline_prefix_hit_ratio": last["prefix_hit_ratio"]}
    if options.note:
        row["note"] = options.note
    print(json.dumps(row))
    if options.record:
        with open(TOP / "docs/bench/serve.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
