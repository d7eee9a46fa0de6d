#!/usr/bin/env python3
"""Plants classic bugs in copies of the CUDA kernels, one at a time, and asserts that their tests bite.

    tests/cuda/mutate.py BUILD_DIR [--all]

Each mutation takes one statement out of one kernel, or weakens it. The kernel's test is compiled for the race check,
linked with the emulation that BUILD_DIR holds, and must fail. Without --all only the sample below is planted; with it,
every barrier, wait and fence of every kernel, and those that survive are listed: each is superfluous, or untested.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# What a mutation takes out, or puts in its place.
KINDS = {
    "syncthreads": (r"__syncthreads\(\);", ""),
    "syncwarp": (r"__syncwarp\(\);", ""),
    "named barrier": (r"dev::bar_sync\([^;]*\);", ""),
    "copy wait": (r"dev::cp_async_wait<([^>]*)>\(\);", r"dev::cp_async_wait<(\1) + 1>();"),
    "mbarrier wait": (r"dev::mbarrier_wait_parity\([^;]*\);", ""),
    "mbarrier arrival": (r"(?:if \(\S+ == 0\) )?dev::mbarrier_arrive\([^;]*\);", ""),
    "kernel wait": (r"dev::wait_for_prior_kernels\(\);", ""),
    "wgmma wait": (r"dev::wgmma_wait<([^>]*)>\(\);", r"dev::wgmma_wait<(\1) + 1>();"),
}
# The tests of each kernel: which source, and which of its tests.
TESTS = {
    "attention": ("attention", "-*IsRightOnRandomBatches:*AttendsLong*:*/11_1_256:*/16_1_128:*/20_1_32"),
    "gemv_ring": ("gemv_ring", "*/bf16:*/q4_0"),
    "gemv": ("gemv", "*/bf16:*/q4_0"),
    "gemm": ("gemm_skinny", "*"),
    "gemm_packed": ("gemm_packed", "*/q4_1:*/q6_k"),
    "gemm_skinny_wgmma": ("gemm_skinny_wgmma", "*"),
    "stage_split": ("gemv_ring", "*/bf16:*/q4_0"),
    "sampling": ("sampling", "-*DrawsInProportion"),
    "rope": ("elementwise", "*"),
    "elements": ("elementwise", "*"),
}
# (kernel, kind, which of that kind in the file)
SAMPLE = [
    ("elements.cuh", "syncthreads", 0),
    ("gemv_ring.cuh", "mbarrier wait", 1),
    ("attention_prefill.cuh", "copy wait", 0),
    ("gemm_packed.cuh", "syncthreads", 0),
    ("gemv_ring.cuh", "kernel wait", 0),
]


def sites(path):
    """(kind, match) of every statement of the file that a mutation can change, by kind."""
    text = path.read_text(encoding="utf-8")
    return {kind: list(re.finditer(pattern, text)) for kind, (pattern, _) in KINDS.items()}


def test_of(kernel):
    for prefix in sorted(TESTS, key=len, reverse=True):
        if kernel.startswith(prefix):
            return TESTS[prefix]
    return None


def run(build, kernel, kind, index):
    """Whether the tests notice the mutation, and what they say."""
    source, tests = test_of(kernel)
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch)
        for folder in ("kernels", "tests/cuda"):
            shutil.copytree(ROOT / folder, tree / folder)
        path = tree / "kernels/cuda" / kernel
        match = sites(path)[kind][index]
        text = path.read_text(encoding="utf-8")
        path.write_text(text[:match.start()] + match.expand(KINDS[kind][1]) + text[match.end():], encoding="utf-8")
        program = tree / "mutant"
        include = re.search(r"REDLINE_CUDA_INCLUDE_DIR:PATH=(.*)", (build / "CMakeCache.txt").read_text()).group(1)
        compiler = os.environ.get("CXX", "g++")
        subprocess.run(
            [compiler, "-std=c++20", "-w", "-O1", "-g1", "-fsanitize=thread", "-ffp-contract=off", "-I", tree,
             "-isystem", include, "-c", tree / "tests/cuda" / f"{source}_test.cpp", "-o", tree / "mutant.o"], check=True)
        subprocess.run(
            [compiler, "-pthread", tree / "mutant.o", build / "kernels/cuda/libredline_cuda_emulation.a",
             build / "kernels/libredline_kernels.a", "-lgtest", "-lgtest_main", "-ldl", "-o", program], check=True)
        try:
            done = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_fail_fast", "--gtest_brief=1"],
                                  capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            return True, "ran into the time limit"
        said = re.search(r"[^\n]*(race|uninitialised|deadlock|NaN|got|before it was waited|outstanding|divergen)[^\n]*", done.stdout)
        return done.returncode != 0, said.group(0).strip()[:160] if said else f"exit status {done.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    mutations = SAMPLE
    if options.all:
        mutations = [(path.name, kind, i) for path in sorted((ROOT / "kernels/cuda").glob("*.cuh")) if test_of(path.name)
                     for kind, found in sites(path).items() for i in range(len(found))]
    survivors = 0
    for kernel, kind, index in mutations:
        found = sites(ROOT / "kernels/cuda" / kernel)[kind]
        if index >= len(found):
            print(f"{kernel} has no {kind} number {index}: choose another in {pathlib.Path(__file__).name}")
            survivors += 1
            continue
        line = found[index].string.count("\n", 0, found[index].start()) + 1
        noticed, said = run(options.build.resolve(), kernel, kind, index)
        survivors += not noticed
        print(f"{kernel}:{line} without its {kind}: {'noticed: ' + said if noticed else 'NOT NOTICED'}", flush=True)
    print(f"{len(mutations) - survivors} of {len(mutations)} mutations noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
