#include "kernels/cuda/sampling.cuh"

#include <algorithm>
#include <limits>

#include "tests/cuda/arrays.h"

namespace redline::cuda::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::int32_t> choose(const std::vector<float>& logits, int num_rows, int vocabulary, int stride,
                                 const std::vector<RowSampling>& rows = {}) {
  dev::Buffer<float> device_logits(logits);
  dev::Buffer<RowSampling> device_rows(rows);
  dev::Buffer<std::int32_t> tokens(static_cast<std::size_t>(num_rows));
  dev::Buffer<std::uint64_t> keys(static_cast<std::size_t>(sampling_keys(num_rows)));
  choose_tokens({.logits = device_logits.get(),
                 .logits_stride = stride,
                 .rows = rows.empty() ? nullptr : device_rows.get(),
                 .num_rows = num_rows,
                 .vocabulary = vocabulary,
                 .tokens = tokens.get(),
                 .keys = keys.get(),
                 .filters = std::any_of(
                     rows.begin(), rows.end(),
                     [](const RowSampling& row) { return row.top_k > 0 || row.top_p < 1 || row.min_p > 0; })},
                {});
  return download(tokens);
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
      EXPECT_EQ(choose(logits, num_rows, vocabulary, stride), want);
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
  EXPECT_EQ(choose(logits, num_rows, vocabulary, vocabulary),
            (std::vector<std::int32_t>{-1, -1, -1, -1, 8888, 3, 3, 0}));
  std::vector<RowSampling> draws(num_rows, {.temperature = 0.7f, .seed = 3});
  const std::vector<std::int32_t> drawn = choose(logits, num_rows, vocabulary, vocabulary, draws);
  EXPECT_EQ(std::vector<std::int32_t>(drawn.begin(), drawn.begin() + 5),
            (std::vector<std::int32_t>{-1, -1, -1, -1, 8888}));
  for (int r = 5; r < 8; ++r) EXPECT_GE(drawn[static_cast<std::size_t>(r)], 0);
}

template <int kWords>
__global__ void philox_kernel(std::uint32_t* out) {
  std::uint32_t words[kWords];
  philox(0, 0, 0, words);
  for (int i = 0; i < kWords; ++i) out[i] = words[i];
}

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, GivesItsPublishedAnswers) {
  dev::Buffer<std::uint32_t> words(4);
  dev::launch(philox_kernel<4>, dim3(1), dim3(1), 0, {}, words.get());
  EXPECT_EQ(download(words),
            (std::vector<std::uint32_t>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
}

TEST(ChooseTokens, DrawsInProportion) {
  const std::vector<double> probability = {0.5, 0.25, 0.125, 0.0625, 0.03, 0.02, 0.01, 0.0025, 0};
  const int vocabulary = static_cast<int>(probability.size()), num_rows = 4000;
  const float temperature = 0.6f;
  std::vector<float> logits;
  std::vector<RowSampling> rows;
  for (int r = 0; r < num_rows; ++r) {
    for (const double p : probability) logits.push_back(temperature * static_cast<float>(std::log(p)) + 3);
    rows.push_back({.temperature = temperature, .seed = 77, .step = static_cast<std::uint64_t>(r)});
  }
  std::vector<int> count(probability.size());
  for (const std::int32_t token : choose(logits, num_rows, vocabulary, vocabulary, rows)) {
    ASSERT_TRUE(token >= 0 && token < vocabulary);
    ++count[static_cast<std::size_t>(token)];
  }
  for (std::size_t i = 0; i < probability.size(); ++i) {  // five standard deviations
    const double want = probability[i] * num_rows;
    EXPECT_NEAR(count[i], want, 5 * std::sqrt(want * (1 - probability[i]))) << "token " << i;
  }
}

TEST(ChooseTokens, DrawsEvenlyFromALargeVocabulary) {
  const int vocabulary = 8192, num_rows = 64;
  const std::vector<float> logits(static_cast<std::size_t>(vocabulary * num_rows), 1.0f);
  std::vector<RowSampling> rows;
  for (int r = 0; r < num_rows; ++r)
    rows.push_back({.temperature = 1, .seed = 1000 + static_cast<std::uint64_t>(r)});
  double sum = 0;
  std::vector<std::int32_t> tokens = choose(logits, num_rows, vocabulary, vocabulary, rows);
  for (const std::int32_t token : tokens) sum += token;
  EXPECT_NEAR(sum / num_rows / vocabulary, 0.5, 5 * std::sqrt(1.0 / 12 / num_rows));
  std::sort(tokens.begin(), tokens.end());
  EXPECT_GT(std::unique(tokens.begin(), tokens.end()) - tokens.begin(), 60);
}

TEST(ChooseTokens, DrawsTheSameWhateverRunsBesideIt) {
  Random random(5);
  const int vocabulary = 12000, num_rows = 5;
  const std::vector<float> logits = random.normals<float>(vocabulary * num_rows, 2);
  std::vector<RowSampling> rows;
  for (int r = 0; r < num_rows; ++r)
    rows.push_back({.temperature = r == 2 ? 0.0f : 0.9f, .seed = 9, .step = static_cast<std::uint64_t>(r)});
  const std::vector<std::int32_t> together = choose(logits, num_rows, vocabulary, vocabulary, rows);
  for (int r = 0; r < num_rows; ++r) {
    const std::vector<float> one(logits.begin() + r * vocabulary, logits.begin() + (r + 1) * vocabulary);
    EXPECT_EQ(choose(one, 1, vocabulary, vocabulary, {rows[static_cast<std::size_t>(r)]})[0],
              together[static_cast<std::size_t>(r)]);
  }
}

// The tokens that the filters leave, by sorting.
std::vector<bool> kept_by_sorting(const float* logits, int vocabulary, const RowSampling& row) {
  std::vector<std::pair<double, int>> candidates;  // (-logit, token)
  const double max = *std::max_element(logits, logits + vocabulary);
  for (int i = 0; i < vocabulary; ++i)
    if (logits[i] > -kInfinity &&
        (row.min_p == 0 || logits[i] >= max + row.temperature * std::log(row.min_p)))
      candidates.emplace_back(-logits[i], i);
  std::sort(candidates.begin(), candidates.end());
  if (row.top_k > 0) candidates.resize(std::min(candidates.size(), static_cast<std::size_t>(row.top_k)));
  const auto weight = [&](std::size_t i) { return std::exp((-candidates[i].first - max) / row.temperature); };
  double total = 0, sum = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) total += weight(i);
  std::size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || sum < row.top_p * total)) sum += weight(kept++);
  std::vector<bool> result(static_cast<std::size_t>(vocabulary));
  for (std::size_t i = 0; i < kept; ++i) result[static_cast<std::size_t>(candidates[i].second)] = true;
  return result;
}

TEST(ChooseTokens, DrawsOnlyAndAllOfWhatFiltersLeave) {
  Random random(6);
  const int num_draws = 24;
  for (const int vocabulary : {1, 40, 1104}) {
    std::vector<float> logits = random.normals<float>(vocabulary, 2);
    for (int i = 0; i + 1 < vocabulary; i += 3)
      logits[static_cast<std::size_t>(i)] = std::round(logits[static_cast<std::size_t>(i)]);  // ties
    if (vocabulary > 30) logits[3] = -kInfinity;
    for (const RowSampling& row :
         {RowSampling{.temperature = 1.0f, .top_k = 1}, RowSampling{.temperature = 0.7f, .top_k = 7},
          RowSampling{.temperature = 1.0f, .top_k = 100000}, RowSampling{.temperature = 1.0f, .top_p = 0.3f},
          RowSampling{.temperature = 2.0f, .top_k = 30, .top_p = 0.8f},
          RowSampling{.temperature = 1.0f, .top_p = 1e-6f}, RowSampling{.temperature = 1.5f, .min_p = 0.2f},
          RowSampling{.temperature = 1.0f, .min_p = 1},
          RowSampling{.temperature = 1.5f, .top_k = 9, .top_p = 0.7f, .min_p = 0.05f}}) {
      SCOPED_TRACE(testing::Message()
                   << "vocabulary " << vocabulary << ", temperature " << row.temperature << ", top_k "
                   << row.top_k << ", top_p " << row.top_p << ", min_p " << row.min_p);
      const std::vector<bool> kept = kept_by_sorting(logits.data(), vocabulary, row);
      std::vector<RowSampling> rows(num_draws, row);
      for (int i = 0; i < num_draws; ++i)
        rows[static_cast<std::size_t>(i)].step = static_cast<std::uint64_t>(i);
      std::vector<float> repeated;
      for (int i = 0; i < num_draws; ++i) repeated.insert(repeated.end(), logits.begin(), logits.end());
      std::vector<bool> drawn(kept.size());
      for (const std::int32_t token : choose(repeated, num_draws, vocabulary, vocabulary, rows)) {
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
  const std::vector<RowSampling> rows = {{.temperature = 0, .top_k = 5},
                                         {.temperature = 1, .top_k = 5, .top_p = 0.5f},
                                         {.temperature = 1, .top_p = 0.5f, .min_p = 0.1f},
                                         {.temperature = 1, .top_k = 1}};
  EXPECT_EQ(choose(logits, 4, vocabulary, vocabulary, rows), (std::vector<std::int32_t>{150, -1, -1, 150}));
}

}  // namespace
}  // namespace redline::cuda::test
