// redline eval: a text through the model as one sequence: perplexity, logits, distance from a base's logits.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "engine/evaluate.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/weights.h"
#include "tools/redline/command.h"
#include "tools/redline/npy.h"
#include "tools/redline/session.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct EvalFlags {
  std::string model, file, tokens, logits, base;
  std::int64_t context = 0;
  DType kv_dtype = DType::kBF16;
  ModelFlags model_flags;
  bool json = false;
};

std::size_t argmax(std::span<const float> values) {
  return static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

/// log sum exp, in double.
double log_normalizer(std::span<const float> logits) {
  const double largest = logits[argmax(logits)];
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - largest);
  return largest + std::log(sum);
}

/// How far the model's distributions lie from a base's, token by token.
class Divergence {
 public:
  /// Nats of KL(base || model).
  void add(std::span<const float> base, std::span<const float> model) {
    const double base_norm = log_normalizer(base), model_norm = log_normalizer(model);
    double sum = 0;
    for (std::size_t i = 0; i < base.size(); ++i) {
      const double log_p = static_cast<double>(base[i]) - base_norm;
      sum += std::exp(log_p) * (log_p - (static_cast<double>(model[i]) - model_norm));
    }
    kl_.push_back(std::max(sum, 0.0));
    num_agreed_ += argmax(base) == argmax(model) ? 1 : 0;
  }
  std::size_t size() const { return kl_.size(); }
  double mean() const { return std::accumulate(kl_.begin(), kl_.end(), 0.0) / static_cast<double>(size()); }
  /// Linear between ranks, as NumPy's.
  double quantile(double q) const {
    std::vector<double> sorted = kl_;
    std::sort(sorted.begin(), sorted.end());
    const double rank = q * static_cast<double>(size() - 1);
    const auto below = static_cast<std::size_t>(rank);
    const auto above = std::min(below + 1, size() - 1);
    return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
  }
  double agreement() const { return static_cast<double>(num_agreed_) / static_cast<double>(size()); }

 private:
  std::vector<double> kl_;
  std::int64_t num_agreed_ = 0;
};

/// What is gathered while logits pass by.
struct Evaluation {
  double nll = 0;  // sum over predicted tokens, nats
  std::int64_t num_predicted = 0;
  Divergence divergence;

  std::optional<double> perplexity() const {
    if (num_predicted == 0) return std::nullopt;
    return std::exp(nll / static_cast<double>(num_predicted));
  }
};

std::vector<std::int32_t> tokens_of(const EvalFlags& flags, const LoadedModel& model) {
  std::vector<std::int32_t> ids =
      flags.tokens.empty() ? tokenizer_of(model).encode(read_file(flags.file)) : read_token_ids(flags.tokens);
  const std::string& file = flags.tokens.empty() ? flags.file : flags.tokens;
  if (ids.empty()) throw std::runtime_error(file + ": holds no token");
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= model.config.vocab_size)
      throw std::runtime_error(file + ": element " + std::to_string(i) + ": token " + std::to_string(ids[i]) +
                               " is beyond the vocabulary of " + std::to_string(model.config.vocab_size));
  return ids;
}

Evaluation evaluate(LoadedModel& model, const EvalFlags& flags, std::span<const std::int32_t> ids,
                    UtilizationMeter& meter) {
  const auto num_tokens = std::ssize(ids);
  const std::int64_t vocab_size = model.config.vocab_size;
  std::optional<NpyReader> base;
  if (!flags.base.empty()) base.emplace(flags.base);
  if (base && (base->rows() != num_tokens || base->cols() != vocab_size))
    throw std::runtime_error(flags.base + ": expected [" + std::to_string(num_tokens) + ", " +
                             std::to_string(vocab_size) + "] for this text and model, found [" +
                             std::to_string(base->rows()) + ", " + std::to_string(base->cols()) + "]");
  std::optional<NpyWriter> logits;
  if (!flags.logits.empty()) logits.emplace(flags.logits, num_tokens, vocab_size);

  Evaluation result;
  ProgressBar bar("Evaluating");
  const std::int64_t window = flags.context > 0 ? flags.context : model.config.max_positions;
  for (std::int64_t first = 0; first < num_tokens; first += window) {
    const auto part = ids.subspan(static_cast<std::size_t>(first),
                                  static_cast<std::size_t>(std::min(window, num_tokens - first)));
    const auto visit = [&](std::int64_t t, std::span<const float> row) {
      if (t + 1 < std::ssize(part)) {
        const auto next = static_cast<std::size_t>(part[static_cast<std::size_t>(t + 1)]);
        result.nll += log_normalizer(row) - static_cast<double>(row[next]);
        ++result.num_predicted;
      }
      if (logits) logits->write(row);
      if (base) result.divergence.add(base->read_row(), row);
      bar.show(first + t + 1, num_tokens);
    };
    for_each_logits(model, part, {.kv_dtype = flags.kv_dtype}, visit,
                    [&](const StepRecord& step) { meter.add_step(step); });
  }
  if (logits) logits->close();
  return result;
}

int eval(const EvalFlags& flags) {
  if (flags.file.empty() == flags.tokens.empty())
    throw UsageError("give either --file TEXT or --tokens FILE");
  const auto model = load_model(flags.model, flags.model_flags);
  const std::vector<std::int32_t> ids = tokens_of(flags, *model);
  UtilizationMeter meter(metered_peaks(*model), model->weights->stored_bytes);
  const auto start = std::chrono::steady_clock::now();
  const Evaluation result = evaluate(*model, flags, ids, meter);
  RunSummary run;
  run.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  run.prompt_tokens = std::ssize(ids);

  const auto perplexity = result.perplexity();
  const Divergence& distance = result.divergence;
  if (flags.json) {
    Json json{{"model", model_name(flags.model)},
              {"tokens", ids.size()},
              {"predicted", result.num_predicted},
              {"perplexity", perplexity ? Json(*perplexity) : Json()},
              {"kl", Json()},
              {"top1_agreement", Json()},
              {"utilization", meter.to_json(run)}};
    if (distance.size() > 0) {
      json["kl"] = {{"mean", distance.mean()},
                    {"median", distance.quantile(0.5)},
                    {"p99", distance.quantile(0.99)},
                    {"max", distance.quantile(1.0)}};
      json["top1_agreement"] = distance.agreement();
    }
    std::printf("%s\n", json.dump().c_str());
    return kExitDone;
  }
  if (perplexity)
    std::printf("perplexity      %.6f over %lld tokens\n", *perplexity,
                static_cast<long long>(result.num_predicted));
  if (distance.size() > 0)
    std::printf("KL to base      mean %.6f  median %.6f  p99 %.6f  max %.6f nats\ntop-1 agreement %.2f %%\n",
                distance.mean(), distance.quantile(0.5), distance.quantile(0.99), distance.quantile(1.0),
                100 * distance.agreement());
  std::fflush(stdout);
  std::fprintf(stderr, "\n%s", meter.report(run).c_str());
  return kExitDone;
}

}  // namespace

Action declare_eval(Flags& flags) {
  const auto values = std::make_shared<EvalFlags>();
  add_model_argument(flags, values->model);
  flags.text("-f,--file", "FILE", "The text", values->file);
  flags.text("--tokens", "FILE", "The text as a JSON array of token ids", values->tokens);
  flags.text("--logits", "OUT.npy", "Write the logits, f32 [tokens, vocabulary]", values->logits);
  flags.text("--base", "BASE.npy", "Compare with logits written before", values->base);
  flags.size("-c,--ctx", "Cut longer texts into windows of so many tokens (default: the model's context)",
             values->context, 1);
  flags.dtype("--kv-dtype", "The cache's type: bf16, f32 or, on CPUs, q8_0", values->kv_dtype,
              {DType::kBF16, DType::kF32, DType::kQ8_0});
  values->model_flags.add_to(flags);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return eval(*values); };
}

}  // namespace redline
