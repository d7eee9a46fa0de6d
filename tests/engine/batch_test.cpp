#include "engine/batch.h"

#include <gtest/gtest.h>

namespace redline {
namespace {

TEST(Batch, FlattensSequencesWithTheirSlotsAndRows) {
  Batch batch(4, 16);
  const std::vector<std::int32_t> a = {10, 11, 12}, b = {20};
  const BlockTable blocks_a = {3, 5}, blocks_b = {7, 2, 9};
  batch.add({.tokens = a, .num_cached = 2, .blocks = &blocks_a, .logits = LogitRows::kAll});
  batch.add({.tokens = b,
             .num_cached = 8,
             .blocks = &blocks_b,
             .phase = Phase::kDecode,
             .logits = LogitRows::kLast});
  const BatchView view = batch.view();
  EXPECT_EQ(view.num_tokens(), 4);
  EXPECT_EQ(std::vector(view.positions.begin(), view.positions.end()),
            (std::vector<std::int32_t>{2, 3, 4, 8}));
  EXPECT_EQ(std::vector(view.slots.begin(), view.slots.end()), (std::vector<std::int64_t>{14, 15, 20, 36}));
  EXPECT_EQ(std::vector(view.logit_rows.begin(), view.logit_rows.end()),
            (std::vector<std::int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(view.sequences[1].table_start, 2);
  EXPECT_EQ(view.sequences[1].query_start, 3);
  EXPECT_EQ(view.block_tables[2], 7);
}

TEST(Batch, ASharedBlockIsReadOnceAStep) {
  Batch batch(4, 16);
  const std::vector<std::int32_t> token = {1};
  const BlockTable first = {3, 5, 6}, second = {3, 5, 7};
  for (int step = 0; step < 2; ++step) {
    batch.clear();
    batch.add({.tokens = token, .num_cached = 9, .blocks = &first, .phase = Phase::kDecode});
    batch.add({.tokens = token, .num_cached = 10, .blocks = &second, .phase = Phase::kDecode});
    EXPECT_EQ(batch.view().sequences[0].num_cached_unique, 9);
    EXPECT_EQ(batch.view().sequences[1].num_cached_unique, 2) << "blocks 3 and 5 were read by the first";
  }
}

}  // namespace
}  // namespace redline
