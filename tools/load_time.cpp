// How long a model takes to be ready, against reading its weight files from the page cache into memory:
// in turns, with as many threads, each into memory of its own.
//
//   load_time MODEL [PAIRS]      (default: 5 pairs, after one that warms up)
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace redline {
namespace {

std::vector<std::filesystem::path> weight_files(const std::filesystem::path& model) {
  if (!std::filesystem::is_directory(model)) return {model};
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(model))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  if (files.empty()) throw std::runtime_error(model.string() + ": no .safetensors file");
  return files;
}

void read_file(const std::filesystem::path& path, ThreadPool& pool) {
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error(path.string() + ": cannot open");
  Buffer memory(static_cast<std::size_t>(size));
  constexpr std::int64_t kPiece = std::int64_t{8} << 20;
  pool.run((size + kPiece - 1) / kPiece, [&](std::int64_t piece, int) {
    std::int64_t at = piece * kPiece;
    const std::int64_t end = std::min(size, at + kPiece);
    while (at < end) {
      const auto got = ::pread(fd, memory.data() + at, static_cast<std::size_t>(end - at), at);
      if (got <= 0) std::abort();
      at += got;
    }
  });
  ::close(fd);
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int run_main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: load_time MODEL [PAIRS]\n");
    return 2;
  }
  const std::string model = argv[1];
  const int pairs = argc > 2 ? std::atoi(argv[2]) : 5;
  const auto files = weight_files(model);
  ThreadPool pool(default_num_threads());
  std::vector<double> ratios;
  for (int pair = -1; pair < pairs; ++pair) {
    const double read_s = seconds([&] {
      for (const auto& file : files) read_file(file, pool);
    });
    const double load_s = seconds([&] { LoadedModel::open(model, {}); });
    if (pair < 0) continue;
    ratios.push_back(load_s / read_s);
    std::printf("read %.3f s, ready %.3f s: %.2f times\n", read_s, load_s, ratios.back());
  }
  std::sort(ratios.begin(), ratios.end());
  if (!ratios.empty()) std::printf("median %.2f times the read\n", ratios[ratios.size() / 2]);
  return 0;
}

}  // namespace
}  // namespace redline

int main(int argc, char** argv) {
  try {
    return redline::run_main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "load_time: %s\n", error.what());
    return 1;
  }
}
