#include "tools/load/outside_page.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace redline::load {
namespace {

using Steps = OutsideCounts::Steps;

/// What a server calls what is asked of it; empty: it does not tell.
struct Names {
  const char *server, *mark;  // a page with `mark` is of `server`
  const char *prompt, *generated, *requests, *steps;
  std::vector<const char*> cached;  // the first that is there
  bool prompt_holds_cached;
  Steps steps_are;
  const char *running, *waiting, *drafts;
};

// vLLM adds tokens up as they come, from steps that yield some; SGLang when a request has ended; llama.cpp
// counts prompts without what was cached.
const std::vector<Names>& all_names() {
  static const std::vector<Names> names = {
      {"vllm",
       "vllm:prompt_tokens_total",
       "vllm:prompt_tokens_total",
       "vllm:generation_tokens_total",
       "vllm:time_to_first_token_seconds_count",
       "vllm:iteration_tokens_total_count",
       {"vllm:prompt_tokens_cached_total", "vllm:prefix_cache_hits_total"},
       true,
       Steps::kThoseWithTokens,
       "vllm:num_requests_running",
       "vllm:num_requests_waiting",
       "vllm:spec_decode_num_accepted_tokens_total"},
      {"sglang",
       "sglang:prompt_tokens_total",
       "sglang:prompt_tokens_total",
       "sglang:generation_tokens_total",
       "sglang:num_requests_total",
       "",
       {"sglang:cached_tokens_total"},
       true,
       Steps::kNotCounted,
       "sglang:num_running_reqs",
       "sglang:num_queue_reqs",
       "sglang:spec_accept_length"},
      {"llama.cpp",
       "llamacpp:prompt_tokens_total",
       "llamacpp:prompt_tokens_total",
       "llamacpp:tokens_predicted_total",
       "",
       "llamacpp:n_decode_total",
       {"llamacpp:prompt_tokens_cached_total"},
       false,
       Steps::kAll,
       "llamacpp:requests_processing",
       "llamacpp:requests_deferred",
       "llamacpp:spec_decode_num_accepted_tokens_total"},
      {"redline",
       "redline_prompt_tokens_total",
       "redline_prompt_tokens_total",
       "redline_generated_tokens_total",
       "redline_time_to_first_token_seconds_count",
       "redline_steps_total",
       {"redline_prefix_cache_hits_total"},
       true,
       Steps::kAll,
       "redline_requests_running",
       "redline_requests_waiting",
       ""}};
  return names;
}

const Names* names_of(const MetricsPage& page) {
  for (const Names& names : all_names())
    if (page.sum(names.mark)) return &names;
  return nullptr;
}

/// A counter's growth; one that is not there yet has counted nothing.
std::optional<std::int64_t> growth(const MetricsPage& before, const MetricsPage& after, const char* name) {
  const auto now = after.sum(name);
  if (!now) return std::nullopt;
  return std::llround(*now - before.sum(name).value_or(0));
}

/// The bound of the fullest-reaching bucket that grew; nothing where that is infinite or there is no such
/// histogram.
std::optional<std::int64_t> longest_in(const MetricsPage& before, const MetricsPage& after,
                                       const std::string& histogram, std::int64_t count) {
  if (growth(before, after, (histogram + "_count").c_str()) != count) return std::nullopt;
  std::optional<double> longest;
  std::map<double, double> grew;
  const auto add = [&](const MetricsPage& page, double sign) {
    for (const auto& sample : page.samples(histogram + "_bucket"))
      if (const auto bound = sample.labels.find("le"); bound != sample.labels.end())
        grew[std::strtod(bound->second.c_str(), nullptr)] += sign * sample.value;
  };
  add(after, 1);
  add(before, -1);
  for (const auto& [bound, cumulative] : grew)
    if (cumulative >= static_cast<double>(count)) {
      longest = bound;
      break;
    }
  if (!longest || !std::isfinite(*longest)) return std::nullopt;
  return static_cast<std::int64_t>(*longest);
}

/// Where all requests of the time began and ended in it, their histograms bound the longest.
std::optional<std::int64_t> longest_of_vllm(const MetricsPage& before, const MetricsPage& after,
                                            std::int64_t requests) {
  for (const MetricsPage* page : {&before, &after})
    if (page->sum("vllm:num_requests_running").value_or(0) +
            page->sum("vllm:num_requests_waiting").value_or(0) >
        0)
      return std::nullopt;
  const auto prompt = longest_in(before, after, "vllm:request_prompt_tokens", requests),
             generated = longest_in(before, after, "vllm:request_generation_tokens", requests);
  if (!prompt || !generated) return std::nullopt;
  return *prompt + *generated - 1;
}

void set_prompts(OutsideCounts& counts, const Names& names, std::int64_t prompt,
                 std::optional<std::int64_t> cached) {
  const std::int64_t most_cached =
      names.prompt_holds_cached ? std::max<std::int64_t>(prompt - counts.requests.lower, 0)
                                : counts.requests.upper * std::max<std::int64_t>(counts.longest - 1, 0);
  counts.cached_prompt_tokens =
      cached ? Range{std::min(*cached, most_cached), std::min(*cached, most_cached)} : Range{0, most_cached};
  counts.computed_prompt_tokens = {prompt, prompt};
  if (names.prompt_holds_cached)
    counts.computed_prompt_tokens = {prompt - counts.cached_prompt_tokens.upper,
                                     prompt - counts.cached_prompt_tokens.lower};
}

/// No sequence is longer than all of them together, each of the others one token.
void limit_longest(OutsideCounts& counts) {
  const std::int64_t all = counts.computed_prompt_tokens.upper + counts.cached_prompt_tokens.upper +
                           counts.generated_tokens - counts.requests.lower;
  counts.longest = counts.longest > 0 ? std::min(counts.longest, std::max<std::int64_t>(all, 1))
                                      : std::max<std::int64_t>(all, 1);
}

struct Told {
  std::int64_t prompt = 0, cached = 0, generated = 0, longest = 0, longest_prompt = 0;
  bool tells_cached = true, all_completed = true;
  std::vector<RequestLengths> lengths;
};

Told told_by(const std::vector<RequestRecord>& records) {
  Told told;
  for (const RequestRecord& record : records) {
    told.all_completed &= record.completed && record.prompt_tokens > 0;
    if (!record.completed) continue;
    told.prompt += record.prompt_tokens;
    told.cached += record.cached_tokens;
    told.generated += record.output_tokens;
    told.tells_cached &= record.tells_cached;
    told.longest = std::max(told.longest, record.prompt_tokens + record.output_tokens - 1);
    told.lengths.push_back({record.prompt_tokens, record.cached_tokens, record.output_tokens});
  }
  return told;
}

void add_lengths(OutsideCounts& counts, Told told, bool with_cached) {
  counts.requests = {static_cast<std::int64_t>(told.lengths.size()),
                     static_cast<std::int64_t>(told.lengths.size())};
  counts.longest = told.longest;
  counts.lengths_tell_cached = with_cached;
  if (!with_cached)
    for (RequestLengths& each : told.lengths) each.cached = 0;
  counts.lengths = std::move(told.lengths);
}

}  // namespace

std::string server_of(const MetricsPage& page) {
  const Names* names = names_of(page);
  return names ? names->server : "";
}

std::optional<OutsideCounts> counts_between(const MetricsPage& before, const MetricsPage& after,
                                            const ServerLimits& limits) {
  const Names* names = names_of(after);
  if (!names) return std::nullopt;
  const auto prompt = growth(before, after, names->prompt),
             generated = growth(before, after, names->generated);
  if (!prompt || !generated || *prompt < 0 || *generated < 0) return std::nullopt;
  OutsideCounts counts;
  counts.generated_tokens = *generated;
  counts.most_rows = limits.most_rows;
  counts.most_sequences = limits.most_sequences;
  counts.longest = limits.longest;
  const auto requests = growth(before, after, names->requests);
  counts.requests = requests ? Range{*requests, *requests}
                             : Range{*generated > 0 && *prompt > 0 ? 1 : 0, std::min(*prompt, *generated)};
  if (const auto seen = after.sum("llamacpp:n_tokens_max"); seen && *seen > 0)
    counts.longest = std::llround(*seen);
  if (std::string(names->server) == "vllm" && requests)
    if (const auto longest = longest_of_vllm(before, after, *requests))
      counts.longest = counts.longest > 0 ? std::min(counts.longest, *longest) : *longest;
  std::optional<std::int64_t> cached;
  for (const char* name : names->cached)
    if (!cached) cached = growth(before, after, name);
  if (!cached && growth(before, after, "vllm:gpu_prefix_cache_hits_total") == 0)
    cached = 0;  // were blocks once
  set_prompts(counts, *names, *prompt, cached);
  limit_longest(counts);
  if (const auto steps = growth(before, after, names->steps)) {
    // Redline counts every step under vLLM's name too.
    counts.counted_steps = after.sum("redline_steps_total") ? Steps::kAll : names->steps_are;
    counts.num_steps = *steps;
  }
  const auto drafts = after.sum(names->drafts);
  counts.drafts = drafts && *drafts > 0;
  return counts;
}

std::optional<OutsideCounts> counts_of(const DriveResult& outcome, const ServerLimits& limits) {
  Told told = told_by(outcome.records);
  const std::int64_t most_at_once = statistics_of(outcome.records, {}).max_concurrent;
  auto counts = counts_between(MetricsPage(outcome.page_before), MetricsPage(outcome.page_after), limits);
  if (counts) {
    const Names& names = *names_of(MetricsPage(outcome.page_after));
    const auto num = static_cast<std::int64_t>(told.lengths.size());
    const std::int64_t computed = counts->computed_prompt_tokens.upper;
    const Range& cached = counts->cached_prompt_tokens;
    const bool prompts_agree = names.prompt_holds_cached ? told.prompt == computed + cached.lower
                                                         : told.prompt >= computed + cached.lower &&
                                                               told.prompt <= computed + cached.upper;
    const bool alone = told.all_completed && prompts_agree && counts->generated_tokens == told.generated &&
                       counts->requests.lower <= num && num <= counts->requests.upper;
    if (!alone) return counts;
    const bool with_cached = cached.upper == 0 || (told.tells_cached && told.cached >= cached.lower &&
                                                   told.cached <= cached.upper);
    // What is computed is told once it is known what was not.
    const std::int64_t spared = cached.upper == 0 ? 0 : told.cached;
    if (with_cached) counts->cached_prompt_tokens = {spared, spared};
    if (with_cached && names.prompt_holds_cached)
      counts->computed_prompt_tokens = {told.prompt - spared, told.prompt - spared};
    add_lengths(*counts, std::move(told), with_cached);
  } else if (!told.all_completed) {
    return std::nullopt;
  } else {
    counts.emplace();
    counts->generated_tokens = told.generated;
    counts->most_rows = limits.most_rows;
    const std::int64_t num = static_cast<std::int64_t>(told.lengths.size());
    const Range cached = told.tells_cached ? Range{told.cached, told.cached}
                                           : Range{0, std::max<std::int64_t>(told.prompt - num, 0)};
    counts->cached_prompt_tokens = cached;
    counts->computed_prompt_tokens = {told.prompt - cached.upper, told.prompt - cached.lower};
    const bool tells_cached = told.tells_cached;
    add_lengths(*counts, std::move(told), tells_cached);
    counts->drafts = true;  // nobody says that there are none
  }
  counts->most_sequences =
      limits.most_sequences > 0 ? std::min(limits.most_sequences, most_at_once) : most_at_once;
  return counts;
}

OutsideView view_between(const MetricsPage& before, const MetricsPage& after, const OutsideCounts& counts,
                         double wall_s) {
  OutsideView view;
  view.counts = counts;
  view.wall_s = wall_s;
  const Names* names = names_of(after);
  view.server = names ? names->server : "unknown";
  if (!names) return view;
  view.num_running = after.sum(names->running);
  view.num_waiting = after.sum(names->waiting);
  const auto own = [&](const std::string& what) -> std::optional<double> {
    const std::string name = std::string(names->server) + ":estimated_" + what + "_per_gpu_total";
    const auto now = after.sum(name);
    if (!now) return std::nullopt;
    return *now - before.sum(name).value_or(0);
  };
  view.own_flops = own("flops");
  if (const auto read = own("read_bytes"), written = own("write_bytes"); read && written)
    view.own_bytes = *read + *written;
  return view;
}

}  // namespace redline::load
