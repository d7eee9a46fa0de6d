#!/usr/bin/env bash
# Installs what is missing, builds a preset and passes all its tests.
#   tools/test.sh [PRESET [CTEST ARGUMENT...]]     PRESET: release (default), debug, asan-ubsan, tsan
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true
tools/setup tests
REDLINE_TEST_MODEL=${REDLINE_TEST_MODEL:-$(tools/get_model.sh)}
export REDLINE_TEST_MODEL
cmake --preset "$preset" -DREDLINE_TESTS=ON -DREDLINE_CUDA=AUTO
cmake --build --preset "$preset"
ctest --preset "$preset" --parallel "$(nproc)" "$@"
