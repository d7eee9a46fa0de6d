#include "kernels/cuda/emulation/race_report.h"

#include <dlfcn.h>

#include <cstdio>
#include <memory>

#include "kernels/cuda/emulation/block.h"

namespace redline::cuda::emulation::race {
namespace {

/// file:line of an address of this program, from its debug information; the address where that fails.
std::string source_line(const void* pc) {
  Dl_info object;
  if (!pc || !dladdr(pc, &object)) return "?";
  const auto offset = static_cast<const char*>(pc) - static_cast<const char*>(object.dli_fbase) - 1;
  char address[32];
  std::snprintf(address, sizeof address, "%#tx", offset);
  const std::string command = text("addr2line -i -e '", object.dli_fname, "' ", address, " 2>/dev/null");
  const auto close = [](FILE* pipe) { pclose(pipe); };
  const std::unique_ptr<FILE, decltype(close)> pipe(popen(command.c_str(), "r"), close);
  std::string result;
  char line[512];
  while (pipe && std::fgets(line, sizeof line, pipe.get())) {
    std::string path = line;
    path.erase(path.find_last_not_of('\n') + 1);
    result += (result.empty() ? "" : " < ") + path.substr(path.rfind('/') + 1);
  }
  return result.empty() ? address : result;
}

}  // namespace

std::string describe(const Place& place) {
  if (!place.what) return text(" [", source_line(place.pc), "]");
  if (place.where.line() == 0) return text(" [", place.what, "]");
  return text(" [", place.what, " at ", emulation::describe(place.where), "]");
}

std::string name(int thread, int num_threads) {
  if (thread == num_threads) return "the copy engine";
  return text("thread ", thread, " (warp ", thread / 32, " lane ", thread % 32, ")");
}

}  // namespace redline::cuda::emulation::race
