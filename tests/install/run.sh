#!/usr/bin/env bash
# Installs a build into a new prefix and uses it from there: the program, its manual page and completions, and the
# library from another project.
#   run.sh BUILD_DIRECTORY
set -euo pipefail
build=$1
model=${REDLINE_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/redline/SmolLM2-135M-Instruct.Q4_1.gguf}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >/dev/null
for file in share/man/man1/redline.1 share/bash-completion/completions/redline \
            share/zsh/site-functions/_redline share/fish/vendor_completions.d/redline.fish; do
  [[ -s $prefix/$file ]] || { echo "not installed: $file" >&2; exit 1; }
done
"$prefix/bin/redline" --version
"$prefix/bin/redline" tokenize "$model" "Hello" | grep -q Hello

cmake -G Ninja -S "$here" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release \
  -DEXAMPLE="$here/../../examples/generate.cpp" >/dev/null
cmake --build "$work/consumer" >/dev/null
"$work/consumer/generate" "$model" "The capital of France is" | tee "$work/answer"
grep -q Paris "$work/answer"
