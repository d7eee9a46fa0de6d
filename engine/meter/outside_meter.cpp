#include "engine/meter/outside_meter.h"

#include <algorithm>
#include <functional>

namespace redline {
namespace {

using Cumulative = std::function<std::int64_t(std::int64_t)>;

/// Of a convex function over `num` whole numbers of sum `total`: the least sum, all alike.
std::int64_t balanced_sum(const Cumulative& f, std::int64_t total, std::int64_t num) {
  if (num <= 0 || total <= 0) return 0;
  const std::int64_t each = total / num, larger = total % num;
  return (num - larger) * f(each) + larger * f(each + 1);
}

/// The greatest sum, as many as can be being `most`.
std::int64_t lumped_sum(const Cumulative& f, std::int64_t total, std::int64_t most) {
  if (total <= 0) return 0;
  most = std::clamp<std::int64_t>(most, 1, total);
  return total / most * f(most) + f(total % most);
}

std::int64_t ceil_div(std::int64_t above, std::int64_t below) { return (above + below - 1) / below; }

/// What follows from the counts alone.
class Bounds {
 public:
  explicit Bounds(const OutsideCounts& counts) : c_(counts) {
    decoded_ = {std::max<std::int64_t>(c_.generated_tokens - c_.requests.upper, 0),
                std::max<std::int64_t>(c_.generated_tokens - c_.requests.lower, 0)};
    rows_ = {c_.computed_prompt_tokens.lower + decoded_.lower,
             c_.computed_prompt_tokens.upper + decoded_.upper};
    // Steps that yield no token hold parts of prompts before their last; cut since the step is full.
    silent_steps_ = std::max<std::int64_t>(c_.computed_prompt_tokens.upper - c_.requests.lower, 0);
    if (c_.most_rows > 0)
      silent_steps_ = std::min(silent_steps_, c_.computed_prompt_tokens.upper / c_.most_rows);
    count_steps();
    cuts_ = steps_.upper;
    if (c_.most_rows > 0) cuts_ = std::min(cuts_, rows_.upper / c_.most_rows);
  }

  Range steps() const { return steps_; }

  /// StepTotals of the least and of the most work.
  StepTotals lower(const Estimate& estimate) const {
    StepTotals totals{.steps = steps_.lower,
                      .head_steps = head_steps_.lower,
                      .rows = rows_.lower,
                      .logit_rows = c_.generated_tokens};
    for (const auto& [window, num_layers] : estimate.layers_by_window()) {
      totals.pairs += num_layers * pairs(window).lower;
      totals.cached += num_layers * cached(window).lower;
    }
    return totals;
  }
  StepTotals upper(const Estimate& estimate) const {
    StepTotals totals{.steps = steps_.upper,
                      .head_steps = head_steps_.upper,
                      .rows = rows_.upper,
                      .logit_rows = c_.generated_tokens};
    if (steps_.upper > head_steps_.lower)
      totals.rows_without_logits =
          std::max<std::int64_t>(c_.computed_prompt_tokens.upper - c_.requests.lower, 0);
    for (const auto& [window, num_layers] : estimate.layers_by_window()) {
      totals.pairs += num_layers * pairs(window).upper;
      totals.cached += num_layers * cached(window).upper;
    }
    return totals;
  }

 private:
  void count_steps() {
    std::int64_t least_with_tokens = c_.generated_tokens > 0 ? 1 : 0;
    if (!c_.drafts) {
      for (const RequestLengths& each : c_.lengths)
        least_with_tokens = std::max(least_with_tokens, each.generated);
      if (c_.most_sequences > 0)
        least_with_tokens = std::max(least_with_tokens, ceil_div(decoded_.lower, c_.most_sequences));
    }
    const std::int64_t most_with_tokens = std::min(c_.generated_tokens, rows_.upper);
    switch (c_.counted_steps) {
      case OutsideCounts::Steps::kAll:
        steps_ = {c_.num_steps, c_.num_steps};
        head_steps_ = {std::min(std::max(least_with_tokens, c_.num_steps - silent_steps_), c_.num_steps),
                       std::min(c_.num_steps, most_with_tokens)};
        break;
      case OutsideCounts::Steps::kThoseWithTokens:
        head_steps_ = {c_.num_steps, c_.num_steps};
        steps_ = {c_.num_steps, c_.num_steps + silent_steps_};
        break;
      case OutsideCounts::Steps::kNotCounted:
        head_steps_ = {least_with_tokens, most_with_tokens};
        steps_ = {least_with_tokens, std::min(most_with_tokens + silent_steps_, rows_.upper)};
        if (c_.most_rows > 0) steps_.lower = std::max(steps_.lower, ceil_div(rows_.lower, c_.most_rows));
        break;
    }
  }

  /// Tokens attended to, summed over the rows computed, in a layer with this window.
  Range pairs(std::int64_t window) const {
    const auto f = [window](std::int64_t n) { return attended_by_first(n, window); };
    if (!c_.lengths.empty()) {
      std::int64_t whole = 0, cached = 0;
      for (const RequestLengths& each : c_.lengths) {
        whole += f(each.prompt + each.generated - 1);
        cached += f(each.cached);
      }
      if (c_.lengths_tell_cached) return {whole - cached, whole - cached};
      return {whole - most_cached(f), whole - balanced_sum(f, c_.cached_prompt_tokens.lower,
                                                           static_cast<std::int64_t>(c_.lengths.size()))};
    }
    Range range;
    range.lower = balanced_sum(f, rows_.lower, c_.requests.upper);
    if (window == 0) range.lower += c_.cached_prompt_tokens.lower;  // each is before one row at least
    range.upper = lumped_sum(f, rows_.upper, c_.longest) +
                  std::min(rows_.upper, c_.longest) * c_.cached_prompt_tokens.upper;
    range.upper =
        std::min(range.upper, rows_.upper * (window > 0 ? std::min(window, c_.longest) : c_.longest));
    return range;
  }

  /// The most that the cached tokens can have spared: in the longest prompts.
  std::int64_t most_cached(const Cumulative& f) const {
    std::vector<std::int64_t> prompts;
    for (const RequestLengths& each : c_.lengths) prompts.push_back(each.prompt);
    std::ranges::sort(prompts, std::greater());
    std::int64_t left = c_.cached_prompt_tokens.upper, sum = 0;
    for (const std::int64_t prompt : prompts) {
      const std::int64_t cached = std::clamp<std::int64_t>(prompt - 1, 0, left);
      sum += f(cached);
      left -= cached;
    }
    return sum;
  }

  /// Tokens read from the cache. Where prompts share blocks a step may read those once for several: the least
  /// reads none that was found in the cache.
  Range cached(std::int64_t window) const {
    const auto reads = [window](std::int64_t n) { return n > 0 ? attended_by_first(n - 1, window) : 0; };
    const std::int64_t deepest = std::max<std::int64_t>(c_.longest - 1, 0);
    Range decode;
    std::int64_t longest_prompt = 0;
    for (const RequestLengths& each : c_.lengths) {
      const auto [prompt, told, generated] = each;
      longest_prompt = std::max(longest_prompt, prompt);
      const std::int64_t shared =
          c_.lengths_tell_cached ? told
                                 : std::clamp<std::int64_t>(prompt - 1, 0, c_.cached_prompt_tokens.upper);
      decode.lower += reads(prompt - shared + generated - 1) - reads(prompt - shared);
      decode.upper += reads(prompt + generated - 1) - reads(prompt);
    }
    if (c_.lengths.empty()) {
      longest_prompt = deepest;
      decode.lower =
          balanced_sum([&](std::int64_t n) { return reads(n + 1); }, decoded_.lower, c_.requests.upper);
      decode.upper = decoded_.upper * (window > 0 ? std::min(window, deepest) : deepest);
    }
    const std::int64_t before_cut = std::max<std::int64_t>(longest_prompt - 1, 0);
    const std::int64_t prefill =
        c_.cached_prompt_tokens.upper + cuts_ * (window > 0 ? std::min(window, before_cut) : before_cut);
    // No more than if each row read for itself.
    return {decode.lower, std::max(decode.lower, std::min(decode.upper + prefill, pairs(window).upper))};
  }

  const OutsideCounts& c_;
  Range decoded_, rows_, steps_, head_steps_;
  std::int64_t silent_steps_ = 0, cuts_ = 0;
};

}  // namespace

OutsideWork outside_work(const OutsideCounts& counts, const Estimate& estimate) {
  const Bounds bounds(counts);
  return {bounds.steps(), estimate.steps(bounds.lower(estimate)), estimate.steps(bounds.upper(estimate))};
}

}  // namespace redline
