#!/usr/bin/env bash
# share_no_code.sh NM OBJECT...: objects of one instruction set (*_avx2.cpp.o, *_avx512_vnni.cpp.o and so on) define no weak or
# vague symbols. The linker keeps one copy of those for the whole program: a machine without the instructions
# might get it.
set -euo pipefail
nm=$1
shift
checked=0
for object in "$@"; do
  [[ $object =~ _avx(2|512)(_vnni|_bf16|_amx)?\.cpp\.o$ ]] || continue
  checked=$((checked + 1))
  if symbols=$("$nm" -C "$object" | grep -E ' [uvVwW] '); then
    printf '%s shares code:\n%s\n' "$object" "$symbols"
    exit 1
  fi
done
[ "$checked" -gt 0 ] || { echo "no object of an instruction set was given"; exit 1; }
