#include "kernels/check.h"

#include <cstdio>
#include <cstdlib>

namespace redline {

void check_failed(const char* file, int line, const char* condition, const char* message) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s: %s\n", file, line, condition, message);
  std::abort();
}

}  // namespace redline
