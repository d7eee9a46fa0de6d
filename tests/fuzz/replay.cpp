// Runs a fuzz target without a fuzzer: on every file in the directories named, and on `changes` random
// changes of each.
//   redline_fuzz_TARGET --changes N [--seed S] DIRECTORY...
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::string& input) {
  // On the heap, at its exact size, so that a sanitizer sees a read beyond the end.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// One change: a byte, a run removed or repeated, a number at its extremes, a piece of another input.
void change(std::string& input, const std::vector<std::string>& all, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  const std::size_t at = below(input.size()), size = std::min(below(16) + 1, input.size() - at);
  constexpr std::uint64_t kExtremes[] = {0,          1,          0x7f,       0x80,  0xff,      0xffff,
                                         0x7fffffff, 0xffffffff, 1ull << 61, ~0ull, 1ull << 63};
  switch (below(6)) {
    case 0:
      if (!input.empty()) input[at] = static_cast<char>(random());
      break;
    case 1:
      input.erase(at, size);
      break;
    case 2:
      input.insert(at, input.substr(at, size));
      break;
    case 3: {
      const std::uint64_t number = kExtremes[below(std::size(kExtremes))];
      const std::size_t width = std::min<std::size_t>(std::size_t{1} << below(4), input.size() - at);
      std::memcpy(input.data() + at, &number, width);
      break;
    }
    case 4: {
      const std::string& other = all[below(all.size())];
      input.insert(at, other.substr(below(other.size()), below(32)));
      break;
    }
    default:
      input.resize(at);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || std::strcmp(argv[1], "--changes") != 0) {
    std::fprintf(stderr, "usage: %s --changes N [--seed S] DIRECTORY...\n", argv[0]);
    return 2;
  }
  const long num_changes = std::stol(argv[2]);
  const bool seeded = argc > 5 && std::strcmp(argv[3], "--seed") == 0;
  const unsigned seed = seeded ? static_cast<unsigned>(std::stoul(argv[4])) : std::random_device()();
  std::vector<std::filesystem::path> files;
  for (int i = seeded ? 5 : 3; i < argc; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(argv[i]))
      if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  std::vector<std::string> inputs;
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  std::printf("%zu inputs, %ld changes of each, seed %u\n", inputs.size(), num_changes, seed);
  std::fflush(stdout);
  std::mt19937 random(seed);
  for (const std::string& input : inputs) run(input);
  for (const std::string& input : inputs)
    for (long i = 0; i < num_changes; ++i) {
      std::string changed = input;
      for (auto times = random() % 4 + 1; times > 0; --times) change(changed, inputs, random);
      run(changed);
    }
  return inputs.empty() ? 1 : 0;
}
