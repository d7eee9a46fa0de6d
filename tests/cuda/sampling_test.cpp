#include "kernels/cuda/sampling.cuh"

#include <algorithm>
#include <functional>
#include <limits>

#include "kernels/cuda/sampling_rows.cuh"
#include "tests/cuda/arrays.h"

namespace redline::cuda::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::int32_t> choose(const std::vector<float>& logits, int vocabulary, int stride,
                                 const std::vector<RowSampling>& choices) {
  dev::Buffer<float> device_logits(logits);
  dev::Buffer<RowSampling> device_choices(choices);
  dev::Buffer<std::int32_t> tokens(choices.size());
  dev::Buffer<std::uint64_t> keys(static_cast<std::size_t>(sampling_keys(std::ssize(choices))));
  choose_tokens({.logits = device_logits.get(),
                 .logits_stride = stride,
                 .choices = device_choices.get(),
                 .num_choices = static_cast<int>(choices.size()),
                 .vocabulary = vocabulary,
                 .tokens = tokens.get(),
                 .keys = keys.get(),
                 .draws = std::any_of(choices.begin(), choices.end(),
                                      [](const RowSampling& choice) { return choice.temperature > 0; })},
                {});
  return download(tokens);
}

/// `count` times `choice`, of rows 0, 1, ...
std::vector<RowSampling> of_rows(int count, RowSampling choice = {}) {
  std::vector<RowSampling> choices(static_cast<std::size_t>(count), choice);
  for (int row = 0; row < count; ++row) choices[static_cast<std::size_t>(row)].row = row;
  return choices;
}
/// `count` times `choice` of one row, drawing evenly from the whole probability.
std::vector<RowSampling> evenly(int count, RowSampling choice) {
  std::vector<RowSampling> choices(static_cast<std::size_t>(count), choice);
  for (int i = 0; i < count; ++i) choices[static_cast<std::size_t>(i)].uniform = (i + 0.5) / count;
  return choices;
}

TEST(ChooseTokens, TakesTheLargestAndOfEqualsTheFirst) {
  Random random(1);
  for (const int vocabulary : {1, 7, 8, 300, 4095, 4096, 8192, 8200, 50257})
    for (const int padding : {0, 1, 8}) {
      SCOPED_TRACE(testing::Message() << "vocabulary " << vocabulary << ", padding " << padding);
      const int num_rows = vocabulary > 9000 ? 1 : 3, stride = vocabulary + padding;
      std::vector<float> logits(static_cast<std::size_t>(num_rows * stride),
                                kInfinity);  // padding is not read
      std::vector<std::int32_t> want;
      for (int row = 0; row < num_rows; ++row) {
        float* const at = logits.data() + row * stride;
        for (int i = 0; i < vocabulary; ++i) at[i] = std::round(random.normal(3));  // many equals
        want.push_back(static_cast<std::int32_t>(std::max_element(at, at + vocabulary) - at));
      }
      EXPECT_EQ(choose(logits, vocabulary, stride, of_rows(num_rows)), want);
    }
}

TEST(ChooseTokens, SaysWhenARowIsBrokenOrHoldsNothing) {
  const int vocabulary = 9000, num_rows = 8;
  std::vector<float> logits(static_cast<std::size_t>(vocabulary * num_rows), -5.0f);
  const auto row = [&](int r) { return logits.data() + r * vocabulary; };
  row(0)[8999] = NAN;
  row(1)[0] = -NAN;
  row(2)[4500] = kInfinity;
  std::fill(row(3), row(4), -kInfinity);
  std::fill(row(4), row(5), -kInfinity);
  row(4)[8888] = -3e38f;
  row(5)[7] = -0.0f, row(5)[3] = 0.0f;
  row(6)[3] = -0.0f, row(6)[7] = 0.0f;
  std::fill(row(7), logits.data() + num_rows * vocabulary, -3e38f);
  EXPECT_EQ(choose(logits, vocabulary, vocabulary, of_rows(num_rows)),
            (std::vector<std::int32_t>{-1, -1, -1, -1, 8888, 3, 3, 0}));
  for (const RowSampling& draw :
       {RowSampling{.uniform = 0.3, .temperature = 0.7f},
        RowSampling{.uniform = 0.3, .temperature = 0.7f, .top_k = 5, .top_p = 0.5f}}) {
    const std::vector<std::int32_t> drawn = choose(logits, vocabulary, vocabulary, of_rows(num_rows, draw));
    EXPECT_EQ(std::vector<std::int32_t>(drawn.begin(), drawn.begin() + 5),
              (std::vector<std::int32_t>{-1, -1, -1, -1, 8888}));
    for (int r = 5; r < 8; ++r) EXPECT_GE(drawn[static_cast<std::size_t>(r)], 0);
  }
}

TEST(ChooseTokens, DrawsInProportion) {
  const std::vector<double> probability = {0.5, 0.25, 0.125, 0.0625, 0.03, 0.02, 0.01, 0.0025, 0};
  const int vocabulary = static_cast<int>(probability.size()), num_draws = 1000;
  const float temperature = 0.6f;
  std::vector<float> logits;
  for (const double p : probability) logits.push_back(temperature * static_cast<float>(std::log(p)) + 3);
  std::vector<int> count(probability.size());
  for (const std::int32_t token :
       choose(logits, vocabulary, vocabulary, evenly(num_draws, {.temperature = temperature})))
    ++count[static_cast<std::size_t>(token)];
  for (std::size_t i = 0; i < probability.size(); ++i)
    EXPECT_NEAR(count[i], probability[i] * num_draws, 1.01) << "token " << i;
}

TEST(ChooseTokens, DrawsEvenlyFromALargeVocabulary) {
  const int vocabulary = 8200, num_draws = 64;
  const std::vector<float> logits(static_cast<std::size_t>(vocabulary), 1.0f);
  const std::vector<std::int32_t> tokens =
      choose(logits, vocabulary, vocabulary, evenly(num_draws, {.temperature = 1}));
  for (int i = 0; i < num_draws; ++i)
    EXPECT_EQ(tokens[static_cast<std::size_t>(i)], (2 * i + 1) * vocabulary / (2 * num_draws));
}

// The tokens that the filters leave, by sorting.
std::vector<bool> kept_by_sorting(const float* logits, int vocabulary, const RowSampling& choice) {
  std::vector<std::pair<double, int>> candidates;  // (-logit, token)
  const double max = *std::max_element(logits, logits + vocabulary);
  for (int i = 0; i < vocabulary; ++i)
    if ((logits[i] - max) / choice.temperature >= choice.least_exponent)
      candidates.emplace_back(-logits[i], i);
  std::sort(candidates.begin(), candidates.end());
  if (choice.top_k > 0)
    candidates.resize(std::min(candidates.size(), static_cast<std::size_t>(choice.top_k)));
  const auto weight = [&](std::size_t i) {
    return std::exp((-candidates[i].first - max) / choice.temperature);
  };
  double total = 0, sum = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) total += weight(i);
  std::size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || sum < choice.top_p * total)) sum += weight(kept++);
  std::vector<bool> result(static_cast<std::size_t>(vocabulary));
  for (std::size_t i = 0; i < kept; ++i) result[static_cast<std::size_t>(candidates[i].second)] = true;
  return result;
}

TEST(ChooseTokens, DrawsOnlyAndAllOfWhatFiltersLeave) {
  Random random(6);
  for (const int vocabulary : {1, 40, 1104}) {
    std::vector<float> logits = random.normals<float>(vocabulary, 2);
    for (int i = 0; i + 1 < vocabulary; i += 3)
      logits[static_cast<std::size_t>(i)] = std::round(logits[static_cast<std::size_t>(i)]);  // ties
    if (vocabulary > 30) logits[3] = -kInfinity;
    for (const RowSampling& choice :
         {RowSampling{.temperature = 1.0f, .top_k = 1}, RowSampling{.temperature = 0.7f, .top_k = 7},
          RowSampling{.temperature = 1.0f, .top_k = 100000}, RowSampling{.temperature = 1.0f, .top_p = 0.3f},
          RowSampling{.temperature = 2.0f, .top_k = 30, .top_p = 0.8f},
          RowSampling{.temperature = 1.0f, .top_p = 1e-6f}, RowSampling{.temperature = 1.0f, .top_p = 0},
          RowSampling{.temperature = 1.5f, .least_exponent = std::log(0.2f)},
          RowSampling{.temperature = 1.0f, .least_exponent = 0},
          RowSampling{.temperature = 1.5f, .least_exponent = std::log(0.05f), .top_k = 9, .top_p = 0.7f}}) {
      SCOPED_TRACE(testing::Message() << "vocabulary " << vocabulary << ", temperature " << choice.temperature
                                      << ", top_k " << choice.top_k << ", top_p " << choice.top_p
                                      << ", exponents from " << choice.least_exponent);
      const std::vector<bool> kept = kept_by_sorting(logits.data(), vocabulary, choice);
      std::vector<bool> drawn(kept.size());
      for (const std::int32_t token : choose(logits, vocabulary, vocabulary, evenly(24, choice))) {
        ASSERT_TRUE(token >= 0 && token < vocabulary);
        EXPECT_TRUE(kept[static_cast<std::size_t>(token)]) << "token " << token;
        drawn[static_cast<std::size_t>(token)] = true;
      }
      if (std::count(kept.begin(), kept.end(), true) <= 3) {  // all are likely
        EXPECT_EQ(drawn, kept);
      }
    }
  }
}

TEST(ChooseTokens, FiltersLeaveGreedyAndBrokenRowsAlone) {
  const int vocabulary = 200;
  std::vector<float> logits(4 * vocabulary, 0.5f);
  logits[150] = 2;
  logits[vocabulary + 7] = NAN;
  std::fill(logits.begin() + 2 * vocabulary, logits.begin() + 3 * vocabulary, -kInfinity);
  logits[3 * vocabulary + 150] = 2;
  std::vector<RowSampling> choices = {{.temperature = 0, .top_k = 5},
                                      {.temperature = 1, .top_k = 5, .top_p = 0.5f},
                                      {.temperature = 1, .least_exponent = -2, .top_p = 0.5f},
                                      {.temperature = 1, .top_k = 1}};
  for (int i = 0; i < 4; ++i) choices[static_cast<std::size_t>(i)].row = i;
  EXPECT_EQ(choose(logits, vocabulary, vocabulary, choices), (std::vector<std::int32_t>{150, -1, -1, 150}));
}

TEST(PrepareRows, MasksAndEditsCopiesAlone) {
  Random random(9);
  for (const int vocabulary : {5, 64, 1003}) {
    SCOPED_TRACE(vocabulary);
    const int stride = vocabulary + 3, words = (vocabulary + 63) / 64;
    const std::vector<float> logits = random.normals<float>(3 * stride, 2);
    std::vector<std::uint64_t> mask(static_cast<std::size_t>(words));
    for (std::uint64_t& word : mask)
      for (int bit = 0; bit < 64; ++bit) word |= std::uint64_t{random.below(2) == 1} << bit;
    const std::vector<PreparedRow> rows = {{2, -1}, {0, 0}, {2, 0}};
    const std::vector<PreparedEdit> edits = {
        {0, {.token = 0, .bias = 1.5f}},
        {0, {.token = 1, .repetition_penalty = 1.3f}},
        {0, {.token = 2, .is_forbidden = true}},
        {1, {.token = 3, .bias = -0.25f, .repetition_penalty = 0.7f, .subtract = 0.375f}},
        {1, {.token = vocabulary, .is_forbidden = true}},
        {2, {.token = -1, .is_forbidden = true}}};
    dev::Buffer<float> device_logits(logits);
    dev::Buffer<std::uint64_t> device_mask(mask);
    dev::Buffer<PreparedRow> device_rows(rows);
    dev::Buffer<PreparedEdit> device_edits(edits);
    const auto prepared_stride = static_cast<std::size_t>(SamplingArgs::prepared_stride(vocabulary));
    dev::Buffer<float> prepared(3 * prepared_stride);
    prepare_rows({.logits = device_logits.get(),
                  .logits_stride = stride,
                  .vocabulary = vocabulary,
                  .rows = device_rows.get(),
                  .mask_words = device_mask.get(),
                  .edits = device_edits.get(),
                  .num_rows = 3,
                  .num_edits = static_cast<int>(edits.size()),
                  .prepared = prepared.get()},
                 {});
    const std::vector<float> got = download(prepared);
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::size_t t = 0; t < prepared_stride; ++t) {
        float want = -kInfinity;
        if (t < static_cast<std::size_t>(vocabulary)) {
          if (rows[r].first_mask_word < 0 || (mask[t / 64] >> (t % 64) & 1) != 0)
            want = logits[static_cast<std::size_t>(rows[r].row * stride) + t];
          for (const PreparedEdit& edit : edits) {
            if (edit.prepared != static_cast<int>(r) || edit.edit.token != static_cast<int>(t)) continue;
            want += edit.edit.bias;
            want = want > 0 ? want / edit.edit.repetition_penalty : want * edit.edit.repetition_penalty;
            want -= edit.edit.subtract;
            if (edit.edit.is_forbidden) want = -kInfinity;
          }
        }
        EXPECT_EQ(got[r * prepared_stride + t], want) << "row " << r << " token " << t;
      }
    EXPECT_EQ(download(device_logits), logits);
  }
}

TEST(FindLogprobs, SumsARowAndListsItsLikeliest) {
  Random random(12);
  const int vocabulary = 1500, stride = vocabulary + 5;
  std::vector<float> logits = random.normals<float>(2 * stride, 3);
  logits[7] = -kInfinity;
  for (int i = 0; i < 40; ++i) logits[static_cast<std::size_t>(stride + 3 * i)] = 4;  // equals
  logits[static_cast<std::size_t>(stride)] = NAN;
  const std::vector<RowSampling> choices = {{.row = 0}, {.row = 1}, {.row = 0}};
  const std::vector<std::int32_t> tokens = {3, 5, -1};
  const std::vector<LogprobRequest> requests = {{0, 20, 0}, {0, 0, 20}, {1, 4, 20}, {2, 4, 24}};
  dev::Buffer<float> device_logits(logits);
  dev::Buffer<RowSampling> device_choices(choices);
  dev::Buffer<std::int32_t> device_tokens(tokens);
  dev::Buffer<LogprobRequest> device_requests(requests);
  dev::Buffer<LogprobResult> results(requests.size());
  dev::Buffer<std::uint64_t> keys(28);
  find_logprobs({.logits = device_logits.get(),
                 .logits_stride = stride,
                 .vocabulary = vocabulary,
                 .choices = device_choices.get(),
                 .tokens = device_tokens.get(),
                 .requests = device_requests.get(),
                 .num_requests = static_cast<int>(requests.size()),
                 .results = results.get(),
                 .keys = keys.get()},
                {});
  EXPECT_EQ(download(device_tokens), (std::vector<std::int32_t>{3, -1, -1})) << "a broken row gives none";
  std::vector<std::pair<float, int>> sorted;
  double sum = 0;
  for (int i = 0; i < vocabulary; ++i) {
    sorted.emplace_back(-logits[static_cast<std::size_t>(i)], i);
    sum += std::exp(static_cast<double>(logits[static_cast<std::size_t>(i)]));
  }
  std::sort(sorted.begin(), sorted.end());
  const std::vector<LogprobResult> got = download(results);
  for (const std::size_t i : {0u, 1u}) {
    EXPECT_NEAR(got[i].log_sum_exp, std::log(sum), 1e-12);
    EXPECT_EQ(got[i].logit, logits[3]);
    EXPECT_EQ(got[i].count, i == 0 ? 20 : 0);
  }
  std::vector<std::uint64_t> listed = download(keys);
  std::sort(listed.begin(), listed.begin() + 20, std::greater<std::uint64_t>());
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(chosen_token(listed[i]), sorted[i].second);
  for (std::size_t i = 20; i < 28; ++i) EXPECT_EQ(listed[i], ~std::uint64_t{0}) << "not written";
}

}  // namespace
}  // namespace redline::cuda::test
