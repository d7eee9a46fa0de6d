// What a program of tests takes from the heap.
#pragma once

#include <cstddef>

namespace redline {

/// Bytes that operator new holds now, and the most that it held since reset_peak_bytes(), in all threads.
/// Only in a program that links allocation.cpp, which replaces operator new.
std::size_t held_bytes();
std::size_t peak_bytes();
void reset_peak_bytes();

}  // namespace redline
