// Paged attention with an exact causal mask, written once for every instruction set.
//
// out = softmax(scale q K^T) V, a segment of keys at a time: scores, one softmax, weighted values; segments
// merge as (max, sum, values) do in online softmax. Both products are one register tile: R rows x P panels of
// 16 columns, whose columns are tokens in q K^T and dimensions in weights V. An element is one chain of
// multiply-adds in the order of dimensions or tokens, whatever R and P, so a row's result does not depend on
// the rows beside it: a chunk of a prompt and single tokens give the same bits.
//
// Keys past a row's own position get a weight of exactly 0; past the tile's last position nothing of V is
// read, and what lies in K's unused slots is replaced before use, so stale memory may hold NaN.
//
// Limits: decode reads every cached byte once (memory bandwidth); a prefill runs 4 d FLOPs per pair (fp32
// peak), of which about a tenth goes to the softmax.
#pragma once

#include <type_traits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/lanes_math.h"

namespace redline::cpu {

template <class L>
class Attention {
 public:
  static void attend_segments(const AttentionTile& tile, int first, int last, float* scratch, float* state) {
    float* q = scratch;
    float* weights = q + kStateFloats;
    float* segment_state = weights + kStateFloats;
    float* narrow = segment_state + kStateFloats;
    load_queries(tile, q);
    for (int segment = first; segment < last; ++segment) {
      float* into = segment == first ? state : segment_state;
      if (tile.kv.bf16)
        Segment<true>(tile, segment, narrow).attend(q, weights, into);
      else
        Segment<false>(tile, segment, narrow).attend(q, weights, into);
      if (segment > first) merge(tile, state, segment_state);
    }
  }

  static void finish(const AttentionTile& tile, float* states, int count) {
    const int dim = tile.kv.head_dim, rows = num_rows(tile);
    for (int i = 1; i < count; ++i) merge(tile, states, states + i * rows * kScratchStride);
    for (int row = 0; row < rows; ++row) {
      const float* from = states + row * kScratchStride;
      float* to = tile.out + row / tile.num_heads * tile.out_stride + row % tile.num_heads * dim;
      const L sum = L::broadcast(from[kStateSum]);
      for (int i = 0; i < dim; i += 16) (L::load(from + i) / sum).store_first(to + i, dim - i);
    }
  }

 private:
  static int num_rows(const AttentionTile& tile) { return tile.num_tokens * tile.num_heads; }
  static constexpr int smaller(int a, int b) { return a < b ? a : b; }

  // Scores are computed as powers of two.
  static void load_queries(const AttentionTile& tile, float* q) {
    const int dim = tile.kv.head_dim;
    const L scale = L::broadcast(tile.scale * 1.442695041f);
    for (int row = 0; row < num_rows(tile); ++row) {
      const float* from = tile.q + row / tile.num_heads * tile.q_stride + row % tile.num_heads * dim;
      for (int i = 0; i < dim; i += 16)
        (L::load_first(from + i, dim - i) * scale).store(q + row * kScratchStride + i);
    }
  }

  // One of the two weights is exactly 1; a segment without keys changes nothing.
  static void merge(const AttentionTile& tile, float* state, const float* segment) {
    for (int row = 0; row < num_rows(tile); ++row) {
      float* a = state + row * kScratchStride;
      const float* b = segment + row * kScratchStride;
      if (b[kStateSum] == 0) continue;
      const float largest = a[kStateMax] > b[kStateMax] ? a[kStateMax] : b[kStateMax];
      const L keep = exp2(L::broadcast(a[kStateMax] - largest));
      const L add = exp2(L::broadcast(b[kStateMax] - largest));
      for (int i = 0; i < tile.kv.head_dim; i += 16)
        L::multiply_add(L::load(b + i), add, L::load(a + i) * keep).store(a + i);
      float weight[16];
      L::multiply_add(L::broadcast(b[kStateSum]), add, L::broadcast(a[kStateSum]) * keep).store(weight);
      a[kStateSum] = weight[0];
      a[kStateMax] = largest;
    }
  }

  /// One segment of a tile. kPairs: the cache is bf16, whose rows of 32-bit words hold two dimensions (K) or
  /// two tokens (V).
  template <bool kPairs>
  class Segment {
   public:
    Segment(const AttentionTile& tile, int segment, float* narrow)
        : tile_(tile),
          num_rows_(num_rows(tile)),
          first_key_(segment * kSegmentTokens),
          num_keys_(smaller(kSegmentTokens, tile.first_position + tile.num_tokens - first_key_)) {
      const KvHead& kv = tile.kv;
      for (int i = 0; i * 16 < num_keys_; ++i) {
        const int key = first_key_ + 16 * i, offset = key % kv.block_size;
        const std::byte* k = kv.data + kv.table[key / kv.block_size] * kv.block_bytes;
        k_[i] = k + offset * 4;
        v_[i] = k + kv.tile_bytes + (kPairs ? 2 : 4) * offset * kv.head_dim;
      }
      if (kv.head_dim % 16 != 0) gather_last_columns(reinterpret_cast<std::byte*>(narrow));
    }

    void attend(const float* q, float* weights, float* state) const {
      constexpr int kChunk = 4;  // panels of K or V that the first-level cache keeps for all rows
      for (int panel = 0; panel * 16 < num_keys_; panel += kChunk)
        for_row_groups([&](auto rows, int row) {
          const int end = smaller(panel + kChunk, (group_keys(row, rows) + 15) / 16);
          tile_panels<rows>(panel, end, [&](auto panels, int j) {
            score<rows, panels>(q + row * kScratchStride, j, weights + row * kScratchStride + 16 * j);
          });
        });
      for_row_groups([&](auto rows, int row) {
        for (int i = row; i < row + rows; ++i) {
          const int padded = (group_keys(row, rows) + 15) / 16 * 16;
          softmax(weights + i * kScratchStride, num_visible(i), padded, state + i * kScratchStride);
        }
      });
      const int dim = tile_.kv.head_dim;
      for (int panel = 0; panel < dim / 16; panel += kChunk)
        for_row_groups([&](auto rows, int row) {
          tile_panels<rows>(panel, smaller(panel + kChunk, dim / 16), [&](auto panels, int j) {
            weigh<rows, panels>(weights + row * kScratchStride, group_keys(row, rows), v_, 64 * j, dim * 4,
                                state + row * kScratchStride + 16 * j);
          });
        });
      if (dim % 16 != 0)
        for_row_groups([&](auto rows, int row) {
          weigh<rows, 1>(weights + row * kScratchStride, group_keys(row, rows), last_, 0, 64,
                         state + row * kScratchStride + dim / 16 * 16);
        });
    }

   private:
    template <int N>
    using Constant = std::integral_constant<int, N>;

    // Keys of this segment that row `row` sees.
    int num_visible(int row) const {
      const int keys = tile_.first_position + row / tile_.num_heads + 1 - first_key_;
      return keys < 0 ? 0 : smaller(keys, num_keys_);
    }
    int group_keys(int row, int rows) const { return num_visible(row + rows - 1); }

    // Calls body(number of rows, first row) on groups of nearly equal size.
    template <class Body>
    void for_row_groups(Body&& body) const {
      const int groups = (num_rows_ + L::kTileRows - 1) / L::kTileRows;
      for (int g = 0; g < groups; ++g) {
        const int row = num_rows_ * g / groups;
        with_rows<1>(num_rows_ * (g + 1) / groups - row, row, body);
      }
    }
    template <int kRows, class Body>
    static void with_rows(int rows, int row, Body& body) {
      if constexpr (kRows < L::kTileRows)
        if (rows > kRows) return with_rows<kRows + 1>(rows, row, body);
      body(Constant<kRows>{}, row);
    }

    // Calls body(number of panels, first panel) over [first, last), as many at once as registers hold.
    template <int kRows, class Body>
    static void tile_panels(int first, int last, Body&& body) {
      constexpr int kAtOnce = L::kAccumulators / kRows < 4 ? L::kAccumulators / kRows : 4;
      int j = first;
      if constexpr (kAtOnce > 1)
        for (; j + kAtOnce <= last; j += kAtOnce) body(Constant<kAtOnce>{}, j);
      for (; j < last; ++j) body(Constant<1>{}, j);
    }

    template <int kRows, int kPanels>
    struct Sums {
      L sum[kRows][kPanels];

      Sums() {
        for (auto& row : sum)
          for (L& x : row) x = L::broadcast(0);
      }
      /// sum[i][j] += a[i][kHalf] times the words at b[j], of which a pair is half.
      template <int kHalf>
      [[gnu::always_inline]] void add(const float* a, const std::byte* const (&b)[kPanels]) {
        L column[kPanels];
        for (int j = 0; j < kPanels; ++j) {
          if constexpr (!kPairs)
            column[j] = L::load(reinterpret_cast<const float*>(b[j]));
          else if constexpr (kHalf == 0)
            column[j] = L::even_bf16(b[j]);
          else
            column[j] = L::odd_bf16(b[j]);
        }
        for (int i = 0; i < kRows; ++i) {
          const L factor = L::broadcast(a[i * kScratchStride + kHalf]);
          for (int j = 0; j < kPanels; ++j) sum[i][j] = L::multiply_add(factor, column[j], sum[i][j]);
        }
      }
      /// The same for two factors, moving b past them.
      [[gnu::always_inline]] void add_two(const float* a, const std::byte* (&b)[kPanels],
                                          std::int64_t stride) {
        add<0>(a, b);
        if constexpr (!kPairs) advance(b, stride);
        add<1>(a, b);
        advance(b, stride);
      }
      [[gnu::always_inline]] static void advance(const std::byte* (&b)[kPanels], std::int64_t stride) {
        for (const std::byte*& p : b) p += stride;
      }
      void store(float* to) const {
        for (int i = 0; i < kRows; ++i)
          for (int j = 0; j < kPanels; ++j) sum[i][j].store(to + i * kScratchStride + 16 * j);
      }
    };

    template <int kRows, int kPanels>
    void score(const float* q, int panel, float* scores) const {
      const std::byte* k[kPanels];
      for (int j = 0; j < kPanels; ++j) k[j] = k_[panel + j];
      const std::int64_t stride = std::int64_t{4} * tile_.kv.block_size;
      Sums<kRows, kPanels> sums;
      for (const float* end = q + tile_.kv.head_dim; q < end; q += 2) sums.add_two(q, k, stride);
      sums.store(scores);
    }

    // Columns of V from `column_bytes` on, rows `stride` bytes apart.
    template <int kRows, int kPanels>
    void weigh(const float* weights, int num_keys, const std::byte* const* tiles, int column_bytes,
               std::int64_t stride, float* values) const {
      Sums<kRows, kPanels> sums;
      const std::byte* v[kPanels];
      const auto start_tile = [&] {
        for (int j = 0; j < kPanels; ++j) v[j] = *tiles + column_bytes + 64 * j;
        ++tiles;
      };
      for (; num_keys >= 16; num_keys -= 16) {
        start_tile();
        for (int i = 0; i < 8; ++i, weights += 2) sums.add_two(weights, v, stride);
      }
      if (num_keys > 0) start_tile();
      for (; num_keys >= 2; num_keys -= 2, weights += 2) sums.add_two(weights, v, stride);
      if (num_keys > 0) sums.template add<0>(weights, v);
      sums.store(values);
    }

    // Scores to weights in place: 2^(score - largest) of the first `visible`, 0 up to `padded`.
    static void softmax(float* row, int visible, int padded, float* state) {
      const L never = L::broadcast(-__builtin_huge_valf());
      L largest = never;
      for (int i = 0; i < visible; i += 16)
        largest = L::max(largest, L::first(visible - i, L::load(row + i), never));
      const float max = largest.largest();
      L sum = L::broadcast(0);
      for (int i = 0; i < visible; i += 16) {
        const L weight = L::first(visible - i, exp2(L::load(row + i) - L::broadcast(max)), L::broadcast(0));
        weight.store(row + i);
        sum = sum + weight;
      }
      for (int i = (visible + 15) / 16 * 16; i < padded; i += 16) L::broadcast(0).store(row + i);
      state[kStateSum] = sum.sum();
      state[kStateMax] = max;
    }

    // V's last columns, fewer than 16, padded to a panel: to load 16 would read past the tile.
    void gather_last_columns(std::byte* narrow) {
      const int dim = tile_.kv.head_dim, first = dim / 16 * 16, rows = kPairs ? 8 : 16;
      for (int i = 0; i * 16 < num_keys_; ++i) {
        last_[i] = narrow + i * rows * 64;
        for (int row = 0; row < rows; ++row)
          __builtin_memcpy(narrow + (i * rows + row) * 64, v_[i] + (row * dim + first) * 4,
                           static_cast<std::size_t>(dim - first) * 4);
      }
    }

    const AttentionTile& tile_;
    const int num_rows_, first_key_, num_keys_;
    const std::byte* k_[kSegmentTokens / 16];  // where each group of 16 tokens starts
    const std::byte* v_[kSegmentTokens / 16];
    const std::byte* last_[kSegmentTokens / 16];  // likewise of V's last columns
  };
};

}  // namespace redline::cpu
