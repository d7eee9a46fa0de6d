#include "engine/meter/step_forecast.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace redline {
namespace {

constexpr double kFirstShare = 0.3;
constexpr double kNews = 0.2;    // a step's weight in the means
constexpr double kMostJump = 3;  // a step that was disturbed counts as no more than so many times the mean

void average(std::optional<double>& mean, double ratio) {
  if (!mean)
    mean = ratio;
  else
    *mean += kNews * (std::clamp(ratio, *mean / kMostJump, *mean * kMostJump) - *mean);
}

}  // namespace

StepForecast::StepForecast(Estimate estimate, const Peaks& peaks)
    : estimate_(std::move(estimate)), peaks_(peaks), model_(kFirstShare, kFirstShare, peaks) {
  if (!verdict(estimate_.decode(1, 1), peaks))
    throw std::runtime_error(
        "a target for the time of a token needs the device's peaks, which are not known: redline probe "
        "measures a CPU's");
}

double StepForecast::least_s() const { return verdict(estimate_.decode(1, 0), peaks_)->time_s(); }

StepForecast::Parts StepForecast::parts(const StepLoad& load) const {
  StepWork step;
  Parts result;
  const auto modelled = [&] { return model_.predict(step, estimate_.attention_type())->wall_s(); };
  if (load.num_decodes > 0) {
    const std::int64_t depth = load.num_decode_cached / load.num_decodes;
    step.add(Phase::kDecode, estimate_.decode(load.num_decodes, depth), load.num_decodes);
    result.decode_s = modelled();
  }
  if (load.num_prompt_tokens > 0) {
    // As if the chunks, of as many tokens each, stood after as many cached ones.
    const std::int64_t each = (load.num_prompt_tokens + load.num_prompts - 1) / load.num_prompts;
    const SequenceShape shape{load.num_prompt_cached / load.num_prompts, each, 1};
    Work work = estimate_.step({&shape, 1});
    const double times = static_cast<double>(load.num_prompt_tokens) / static_cast<double>(each);
    const auto scale = [times](std::int64_t& count) {
      count = static_cast<std::int64_t>(static_cast<double>(count) * times);
    };
    scale(work.attention);
    for (std::int64_t& flops : work.flops_by_type) scale(flops);
    scale(work.kv_read);
    scale(work.kv_write);
    step.add(Phase::kPrefill, work, load.num_prompt_tokens);
    result.added_s = modelled() - result.decode_s;
  }
  return result;
}

double StepForecast::seconds(const StepLoad& load) const {
  const Parts modelled = parts(load);
  // What one phase has shown is the best guess of the other.
  const double decode = decode_ratio_.value_or(added_ratio_.value_or(1)),
               added = added_ratio_.value_or(decode_ratio_.value_or(1));
  return decode * modelled.decode_s + added * modelled.added_s;
}

void StepForecast::learn(const StepLoad& load, double seconds) {
  const Parts modelled = parts(load);
  if (modelled.added_s <= 0) {
    if (modelled.decode_s > 0) average(decode_ratio_, seconds / modelled.decode_s);
    return;
  }
  const double decode_s = decode_ratio_.value_or(1) * modelled.decode_s;
  constexpr double kLeastShare = 0.05;  // of the step, that a prompt took however long the rest should have
  average(added_ratio_, std::max(seconds - decode_s, kLeastShare * seconds) / modelled.added_s);
}

}  // namespace redline
