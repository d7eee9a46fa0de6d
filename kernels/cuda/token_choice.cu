#include "kernels/cuda/token_choice.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cuda/sampling.cuh"
#include "kernels/cuda/sampling_rows.cuh"

namespace redline::cuda {
namespace {

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

// Where the arrays of what comes down lie.
struct OutLayout {
  std::size_t tokens = 0, results, keys, num_bytes;
  OutLayout(std::size_t num_choices, std::int64_t num_results, std::int64_t num_keys)
      : results(aligned(num_choices * sizeof(std::int32_t))),
        keys(results + aligned(static_cast<std::size_t>(num_results) * sizeof(LogprobResult))),
        num_bytes(keys + static_cast<std::size_t>(num_keys) * sizeof(std::uint64_t)) {}
};

void reserve(Buffer& buffer, std::size_t bytes, const char* name) {
  if (buffer.size() < bytes) buffer = allocate_device(2 * bytes, name);
}
void reserve_pinned(Buffer& buffer, std::size_t bytes) {
  if (buffer.size() < bytes) buffer = allocate_pinned(2 * bytes);
}

RowSampling parameters_of(const ChoiceRequest& request) {
  RowSampling row;
  row.uniform = request.uniform;
  row.temperature = request.temperature;
  if (request.min_p > 0) row.least_exponent = std::max(std::log(request.min_p), kLeastExponent);
  row.top_k = request.top_k;
  row.top_p = request.top_p;
  row.row = request.row;
  return row;
}

// The logit that choice_key made `key` of.
float logit_of(std::uint64_t key) {
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  const std::uint32_t bits = ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered;
  float logit;
  std::memcpy(&logit, &bits, sizeof logit);
  return logit;
}

}  // namespace

void TokenChoice::launch(TensorView logits, const std::vector<ChoiceRequest>& requests,
                         const Stream& stream) {
  std::vector<RowSampling> choices;
  std::vector<PreparedRow> rows;
  std::vector<PreparedEdit> edits;
  std::vector<std::uint64_t> words;
  std::vector<LogprobRequest> logprobs;
  asked_.clear();
  num_keys_ = 0;
  bool draws = false;
  for (const ChoiceRequest& request : requests) {
    REDLINE_CHECK(request.row >= 0 && request.row < logits.rows, "a choice names a row of the logits");
    RowSampling choice = parameters_of(request);
    draws = draws || choice.temperature > 0;
    if (!request.edits.empty() || !request.allowed.empty()) {
      choice.prepared = static_cast<std::int32_t>(rows.size());
      rows.push_back({request.row, request.allowed.empty() ? -1 : static_cast<std::int32_t>(words.size())});
      words.insert(words.end(), request.allowed.begin(), request.allowed.end());
      if (!request.allowed.empty())
        words.resize(static_cast<std::size_t>(rows.back().first_mask_word + (logits.cols + 63) / 64));
      for (const LogitEdit& edit : request.edits) edits.push_back({choice.prepared, edit});
    }
    Asked asked{request.num_logprobs, static_cast<std::int32_t>(logprobs.size()),
                static_cast<std::int32_t>(num_keys_)};
    if (asked.count >= 0) {
      logprobs.push_back({static_cast<std::int32_t>(choices.size()), asked.count, asked.first_key});
      num_keys_ += asked.count;
    }
    asked_.push_back(asked);
    choices.push_back(choice);
  }
  num_results_ = std::ssize(logprobs);
  if (choices.empty()) return;

  const auto bytes_of = [](const auto& values) { return aligned(values.size() * sizeof(*values.data())); };
  const std::size_t in_bytes =
      bytes_of(choices) + bytes_of(rows) + bytes_of(edits) + bytes_of(words) + bytes_of(logprobs);
  reserve_pinned(host_in_, in_bytes);
  reserve(device_in_, in_bytes, "choices");
  std::size_t used = 0;
  const auto put = [&]<class T>(const std::vector<T>& values) {
    const auto* const on_device = reinterpret_cast<const T*>(device_in_.data() + used);
    if (!values.empty()) std::memcpy(host_in_.data() + used, values.data(), values.size() * sizeof(T));
    used += bytes_of(values);
    return on_device;
  };
  const OutLayout out(choices.size(), num_results_, num_keys_);
  reserve_pinned(host_out_, out.num_bytes);
  reserve(device_out_, out.num_bytes, "chosen");
  const auto vocabulary = static_cast<int>(logits.cols);
  const auto prepared_bytes =
      rows.size() * static_cast<std::size_t>(SamplingArgs::prepared_stride(vocabulary)) * sizeof(float);
  reserve(prepared_, prepared_bytes, "prepared logits");
  reserve(keys_, static_cast<std::size_t>(sampling_keys(std::ssize(choices))) * sizeof(std::uint64_t),
          "keys");

  SamplingArgs sampling;
  sampling.logits = logits.f32();
  sampling.logits_stride = logits.row_stride;
  sampling.prepared = reinterpret_cast<const float*>(prepared_.data());
  sampling.choices = put(choices);
  sampling.num_choices = static_cast<int>(choices.size());
  sampling.vocabulary = vocabulary;
  sampling.tokens = reinterpret_cast<std::int32_t*>(device_out_.data() + out.tokens);
  sampling.keys = reinterpret_cast<std::uint64_t*>(keys_.data());
  sampling.draws = draws;
  PrepareArgs prepare;
  prepare.logits = logits.f32();
  prepare.logits_stride = logits.row_stride;
  prepare.vocabulary = vocabulary;
  prepare.rows = put(rows);
  prepare.edits = put(edits);
  prepare.mask_words = put(words);
  prepare.num_rows = static_cast<int>(rows.size());
  prepare.num_edits = static_cast<int>(edits.size());
  prepare.prepared = reinterpret_cast<float*>(prepared_.data());
  LogprobArgs asks;
  asks.logits = logits.f32();
  asks.logits_stride = logits.row_stride;
  asks.vocabulary = vocabulary;
  asks.choices = sampling.choices;
  asks.tokens = sampling.tokens;
  asks.requests = put(logprobs);
  asks.num_requests = static_cast<int>(logprobs.size());
  asks.results = reinterpret_cast<LogprobResult*>(device_out_.data() + out.results);
  asks.keys = reinterpret_cast<std::uint64_t*>(device_out_.data() + out.keys);

  dev::copy_to_device_async(device_in_.data(), host_in_.data(), used, stream.get());
  prepare_rows(prepare, stream.get());
  choose_tokens(sampling, stream.get());
  find_logprobs(asks, stream.get());
  const auto down = [&](std::size_t begin, std::size_t bytes) {
    if (bytes > 0)
      dev::copy_to_host_async(host_out_.data() + begin, device_out_.data() + begin, bytes, stream.get());
  };
  if (num_results_ == 0)
    down(out.tokens, choices.size() * sizeof(std::int32_t));
  else
    down(0, out.num_bytes);
}

std::vector<ChosenToken> TokenChoice::results() const {
  std::vector<ChosenToken> chosen(asked_.size());
  const OutLayout out(asked_.size(), num_results_, num_keys_);
  const auto* const tokens = reinterpret_cast<const std::int32_t*>(host_out_.data() + out.tokens);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    ChosenToken& token = chosen[i];
    const Asked& asked = asked_[i];
    token.token = tokens[i];
    if (token.token < 0 || asked.count < 0) continue;
    LogprobResult result;
    std::memcpy(&result,
                host_out_.data() + out.results + static_cast<std::size_t>(asked.index) * sizeof result,
                sizeof result);
    token.logit = result.logit;
    token.log_sum_exp = result.log_sum_exp;
    const auto* const first =
        reinterpret_cast<const std::uint64_t*>(host_out_.data() + out.keys) + asked.first_key;
    std::vector<std::uint64_t> keys(first, first + result.count);
    std::ranges::sort(keys, std::greater());
    for (const std::uint64_t key : keys) token.likeliest.emplace_back(chosen_token(key), logit_of(key));
  }
  return chosen;
}

}  // namespace redline::cuda
