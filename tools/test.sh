#!/usr/bin/env bash
# Builds the release preset and passes all tests.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset release
cmake --build --preset release
ctest --preset release
