#include "tools/redline/options.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#ifdef REDLINE_HAS_CUDA
#include "kernels/cuda_ops.h"
#endif

namespace redline {
namespace {

constexpr double kLargest = 1e6;
constexpr std::int32_t kMaxTokens = std::numeric_limits<std::int32_t>::max();

// What makes the backend called `device`; nothing for the CPU.
std::function<std::unique_ptr<Ops>()> backend(const std::string& device) {
  if (device == "cpu") return {};
  int index = 0, used = 0;
  const bool is_cuda = device == "cuda" || (std::sscanf(device.c_str(), "cuda:%d%n", &index, &used) == 1 &&
                                            static_cast<std::size_t>(used) == device.size());
  if (!is_cuda) throw UsageError("--device: '" + device + "' is neither cpu nor cuda nor cuda:N");
#ifdef REDLINE_HAS_CUDA
  return [index] {
    CudaOptions options;
    options.device = index;
    return make_cuda_ops(options);
  };
#else
  throw UsageError("--device: this program was built without CUDA; there is cpu");
#endif
}

}  // namespace

void add_model_argument(Flags& flags, std::string& model, bool required) {
  flags.argument("MODEL", "A .gguf file, a directory with safetensors, or a cached repository's id", model,
                 required);
}

std::string model_name(const std::string& reference) {
  const std::filesystem::path path(reference);
  const std::filesystem::path name = path.has_filename() ? path.filename() : path.parent_path().filename();
  return name.extension() == ".gguf" ? name.stem() : name;
}

void ModelFlags::add_to(Flags& flags) {
  flags.dtype("--dtype",
              "Store the weights as f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k to q6_k, iq4_nl, "
              "iq4_xs, mxfp4 or f8_e4m3 (default: as the file does)",
              dtype);
  flags.number("--threads", "Threads (default: one per core)", threads, 1, 4096);
  flags.text("--device", "NAME", "Where it runs: cpu, cuda or cuda:N", device);
}

ModelOptions ModelFlags::options() const {
  ModelOptions options;
  options.make_ops = backend(device);
  options.dtype = dtype;
  options.cpu.threads = threads;
  return options;
}

std::unique_ptr<DeviceSensors> sensors_of(const std::string& device) {
  // Where tests keep a /sys of their own.
  const char* sysfs = std::getenv("REDLINE_SYSFS");
  if (device == "cpu") return cpu_sensors(sysfs ? sysfs : "/sys");
  const auto colon = device.find(':');  // "cuda:1"
  return nvidia_sensors(colon == std::string::npos ? 0 : std::atoi(device.c_str() + colon + 1));
}

void CacheFlags::add_to(Flags& flags) {
  flags.size("-c,--ctx", "The longest sequence, in tokens (default: the model's own)", options.max_context,
             1);
  flags.dtype("--kv-dtype", "The cache's type: bf16, f32 or, on CPUs, q8_0", options.kv_dtype,
              {DType::kBF16, DType::kF32, DType::kQ8_0});
  flags.size("--kv-memory", "Bytes for the cache (default: enough for --ctx)", options.kv_memory_bytes, 1);
}

void add_batch_flags(Flags& flags, EngineOptions& options) {
  flags.number("--max-num-seqs", "Sequences that run at a time", options.max_sequences, 1, 1 << 20);
  flags.number("--max-num-batched-tokens", "Tokens of one step, those of prompts included",
               options.max_batched_tokens, 1, 1 << 20);
}

void add_pace_flag(Flags& flags, EngineOptions& options) {
  flags.duration(
      "--target-tpot",
      "Cut prompts and let requests wait so that a token takes at most this, as 50ms, where it can",
      options.target_tpot_s);
}

void SamplingFlags::add_to(Flags& flags) {
  flags.size("-n,--max-tokens", "Generate at most this many tokens (default: to the context's end)",
             max_tokens, 1);
  flags.number("--temp", "Temperature; 0 takes the likeliest token", params.temperature, 0, kLargest);
  flags.number("--top-k", "Sample from the N likeliest tokens; 0: from all", params.top_k, -1);
  flags.number("--top-p", "Sample from the likeliest tokens that together have this probability",
               params.top_p, 1e-6, 1);
  flags.number("--min-p", "Leave out tokens below this share of the likeliest one's probability",
               params.min_p, 0, 1);
  flags.number("--seed", "The same seed gives the same tokens", params.seed);
  flags.number("--repetition-penalty", "Divide the logits of tokens seen; 1: off", params.repetition_penalty,
               1e-6, kLargest);
  flags.number("--presence-penalty", "Subtract from the logits of generated tokens", params.presence_penalty,
               -kLargest, kLargest);
  flags.number("--frequency-penalty", "The same, times how often each was generated",
               params.frequency_penalty, -kLargest, kLargest);
  flags.texts("--logit-bias", "ID=X", "Add X to a token's logit", logit_bias);
  flags.texts("--stop", "TEXT", "End before this text", params.stop);
  flags.numbers("--stop-token", "End after this token id", params.stop_token_ids, 0);
  flags.number("--min-tokens", "Ignore every end before this many tokens", params.min_tokens, 0);
  flags.flag("--ignore-eos", "Go on after the model's end tokens", params.ignore_eos);
}

SamplingParams SamplingFlags::sampling() const {
  SamplingParams result = params;
  if (max_tokens > 0)
    result.max_tokens = static_cast<std::int32_t>(std::min<std::int64_t>(max_tokens, kMaxTokens));
  for (const std::string& text : logit_bias) {
    int id = 0, used = 0;
    float bias = 0;
    if (std::sscanf(text.c_str(), "%d=%f%n", &id, &bias, &used) != 2 ||
        static_cast<std::size_t>(used) != text.size() || !std::isfinite(bias))
      throw UsageError("--logit-bias: '" + text + "' is not ID=NUMBER");
    result.logit_bias.emplace_back(id, bias);
  }
  return result;
}

std::string read_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || errno != 0)
    throw std::runtime_error(path + ": cannot be read: " + std::strerror(errno != 0 ? errno : EIO));
  return text.str();
}

std::string read_standard_input() { return std::string(std::istreambuf_iterator<char>(std::cin), {}); }

std::vector<std::int32_t> read_token_ids(const std::string& path) {
  const auto json = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) throw std::runtime_error(path + ": expected a JSON array of token ids");
  std::vector<std::int32_t> ids;
  for (const auto& item : json) {
    if (!item.is_number_integer() || item < 0 || item > kMaxTokens)
      throw std::runtime_error(path + ": element " + std::to_string(ids.size()) +
                               ": expected a token id, found " + item.dump().substr(0, 80));
    ids.push_back(item.get<std::int32_t>());
  }
  return ids;
}

}  // namespace redline
