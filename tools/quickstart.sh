#!/usr/bin/env bash
# From a fresh clone to a model's answer and the report of what the hardware did for it: installs what is missing,
# builds the program, gets a small instruct model, asks it something. Takes seconds when run again.
#   tools/quickstart.sh [--model PATH] [--prompt TEXT]
set -euo pipefail

model=
prompt="Explain in a few sentences why reading weights from memory limits how fast a language model can write."
while [[ $# -gt 0 ]]; do
  case "$1" in
    --model) model=$(realpath -- "${2:?--model needs a path}"); shift 2 ;;
    --prompt) prompt=${2:?--prompt needs a text}; shift 2 ;;
    *) sed -n '2,4s/^# //p' "$0" >&2; [[ $1 == --help || $1 == -h ]] && exit 0; exit 2 ;;
  esac
done
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { tail -40 "$log" >&2; echo "tools/quickstart.sh: failed: $*" >&2; exit 1; }; }

tools/setup
if [[ ! -x build/release/redline ]]; then echo "Building (once; a few minutes on two cores)" >&2; fi
# The CUDA backend takes minutes more to build, and a GPU to use.
cuda=OFF
if [[ -e /dev/nvidiactl ]]; then cuda=AUTO; fi
quietly cmake --preset release -DREDLINE_CUDA=$cuda
quietly cmake --build --preset release --target redline
[[ -n $model ]] || model=$(tools/get_model.sh)

echo "> $prompt" >&2
build/release/redline run "$model" --prompt "$prompt" --max-tokens 200
