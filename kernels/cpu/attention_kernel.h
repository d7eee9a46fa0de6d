// Paged attention with an exact causal mask, written once for every instruction
// set.
//
// out = softmax(scale q K^T) V, a segment of keys at a time: scores, one
// softmax, weighted values; segments merge as (max, sum, values) do in online
// softmax. Both products are one register tile: R rows x P panels of 16
// columns, whose columns are tokens in q K^T and dimensions in weights V. An
// element is one chain of multiply-adds in the order of dimensions or tokens,
// whatever R and P, so a row's result does not depend on the rows beside it: a
// chunk of a prompt and single tokens give the same bits.
//
// Where the processor has tiles, those compute both products (attention_tiles.h).
//
// Keys past a row's own position get a weight of exactly 0; past the tile's
// last position nothing of V is read, and what lies in K's unused slots is
// replaced before use, so stale memory may hold NaN.
//
// Limits: decode reads every cached byte once (memory bandwidth); a prefill
// runs 4 d FLOPs per pair (fp32 peak), of which about a tenth goes to the
// softmax.
#pragma once

#include <type_traits>
#include <utility>

#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/lanes_math.h"

namespace redline::cpu {

/// L: sixteen f32 lanes. Tiles: AMX's registers for a bf16 cache, or void.
template <class L, class Tiles = void>
class Attention {
 public:
  static void attend_segments(const AttentionTile& tile, int first, int last, float* scratch, float* state) {
    float* q = scratch;
    float* weights = q + kStateFloats;
    float* segment_state = weights + kStateFloats;
    float* wide = segment_state + kStateFloats;
    load_queries(tile, q);
    if constexpr (kHasTiles)
      if (in_tiles(tile)) {
        SplitRows<L> rows;
        for (int segment = first; segment < last; ++segment) {
          float* into = segment == first ? state : segment_state;
          Segment<DType::kBF16>(tile, segment, wide).attend_in_tiles(q, rows, weights, into);
          if (segment > first) merge(tile, state, segment_state);
        }
        return Tiles::release();
      }
    for (int segment = first; segment < last; ++segment) {
      float* into = segment == first ? state : segment_state;
      if (tile.kv.dtype == DType::kBF16)
        Segment<DType::kBF16>(tile, segment, wide).attend(q, weights, into);
      else if (tile.kv.dtype == DType::kQ8_0)
        Segment<DType::kQ8_0>(tile, segment, wide).attend(q, weights, into);
      else
        Segment<DType::kF32>(tile, segment, wide).attend(q, weights, into);
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
  static constexpr bool kHasTiles = !std::is_void_v<Tiles>;
  static bool in_tiles(const AttentionTile& tile) {
    return tile.kv.dtype == DType::kBF16 && tile.kv.head_dim % 32 == 0;
  }
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

  // One of the two weights is exactly 1; a segment without keys changes
  // nothing.
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

  /// One segment of a tile. A bf16 cache's rows of 32-bit words hold two
  /// dimensions (K) or two tokens (V). Rows enough for several register tiles
  /// share panels widened to f32 in the first-level cache; fewer widen in
  /// registers. q8_0 always widens to the first-level cache, scales multiplied
  /// in: a scale times a code is exact in f32.
  template <DType kCache>
  class Segment {
    static constexpr bool kPairs = kCache == DType::kBF16, kCodes = kCache == DType::kQ8_0;
    // Of a row of K by token, or of V by dimension.
    static constexpr int kElementBytes = kCodes ? 1 : 4;

   public:
    Segment(const AttentionTile& tile, int segment, float* wide)
        : tile_(tile),
          wide_(wide),
          num_rows_(num_rows(tile)),
          first_key_(segment * kSegmentTokens),
          num_keys_(smaller(kSegmentTokens, tile.first_position + tile.num_tokens - first_key_)),
          first_panel_(smaller(num_hidden(0), num_keys_) / 16) {
      const KvHead& kv = tile.kv;
      const int keys_ahead = tile.first_position + tile.num_tokens - first_key_;
      num_panels_ahead_ = smaller((keys_ahead + 15) / 16, kSegmentTokens / 16 + kPanelsAhead);
      for (int i = 0; i < num_panels_ahead_; ++i) {
        const int key = first_key_ + 16 * i, offset = key % kv.block_size;
        const std::byte* k = kv.data + kv.table[key / kv.block_size] * kv.block_bytes;
        k_[i] = k + offset * kElementBytes;
        v_[i] = k + kv.tile_bytes + (kPairs ? 2 : kElementBytes) * offset * kv.head_dim;
      }
    }

    void attend(const float* q, float* weights, float* state) const {
      if (kCodes || (kPairs && num_rows_ > L::kTileRows)) {
        score_wide(q, weights);
        softmax_rows(weights, state);
        weigh_wide(weights, state);
      } else {
        score_all<kPairs>(q, k_, 4 * tile_.kv.block_size, 0, num_panels(), weights);
        softmax_rows(weights, state);
        const int dim = tile_.kv.head_dim;
        weigh_all<kPairs>(weights, v_, 4 * dim, 0, dim / 16, state);
        if (dim % 16 != 0) weigh_last_columns(weights, state);
      }
    }

    void attend_in_tiles(const float* q, SplitRows<L>& rows, float* weights, float* state) const {
      using Products = TileProducts<L, Tiles>;
      const int dim = tile_.kv.head_dim, panels = num_panels() - first_panel_, first = 16 * first_panel_;
      if (panels <= 0) return softmax_all(weights, state);
      rows.fill(q, num_rows_, dim, 32);
      const std::int64_t k_stride = 4 * tile_.kv.block_size, v_stride = 4 * dim;
      Products::multiply(
          rows, panels, k_stride,
          [&](int panel, int step) {
            panel += first_panel_;
            const std::int64_t skipped = step * 16 * k_stride;
            touch(k_[smaller(panel + kPanelsAhead, num_panels_ahead_ - 1)] + skipped, k_stride);
            touch(v_[panel] + step * 1024, 64);
            return k_[panel] + skipped;
          },
          weights + first);
      softmax_all(weights, state);
      rows.fill(weights + first, num_rows_, 16 * panels, 16);
      // The last tokens' V as far as it was written, then zeros.
      const std::byte* last = v_[num_panels() - 1];
      if (num_keys_ % 16 != 0) last = copy_values(last, num_keys_ % 16);
      Products::multiply(
          rows, dim / 16, v_stride,
          [&](int panel, int step) {
            return (step + 1 < panels ? v_[first_panel_ + step] : last) + 64 * panel;
          },
          state);
    }

   private:
    static constexpr int kPanelsAhead = 4;

    static void touch(const std::byte* p, std::int64_t stride) {
      for (int i = 0; i < 16; ++i) L::prefetch(p + i * stride);
    }
    void softmax_all(float* weights, float* state) const {
      for (int row = 0; row < num_rows_; ++row)
        softmax(weights + row * kScratchStride, 16 * first_panel_, num_hidden(row), num_visible(row),
                16 * num_panels(), state + row * kScratchStride);
    }
    // 16 tokens of V, of which `count` exist, with zeros for the others.
    const std::byte* copy_values(const std::byte* from, int count) const {
      const int dim = tile_.kv.head_dim;
      auto* to = reinterpret_cast<std::byte*>(wide_);
      __builtin_memset(to, 0, static_cast<std::size_t>(32 * dim));
      for (int pair = 0; pair < (count + 1) / 2; ++pair)
        for (int i = 0; i < dim; ++i)
          __builtin_memcpy(to + 4 * (pair * dim + i), from + 4 * (pair * dim + i),
                           2 * pair + 1 < count ? 4 : 2);
      return to;
    }

    template <int N>
    using Constant = std::integral_constant<int, N>;

    // Calls body(Constant<0>), ..., so that indices are constants and sums stay
    // in registers.
    template <int kCount, class Body>
    [[gnu::always_inline]] static void unrolled(Body&& body) {
      [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) { (body(Constant<kIndex>{}), ...); }
      (std::make_integer_sequence<int, kCount>{});
    }

    int num_panels() const { return (num_keys_ + 15) / 16; }
    // Keys of this segment that lie before row `row`'s window.
    int num_hidden(int row) const {
      if (tile_.window == 0) return 0;
      const int keys = tile_.first_position + row / tile_.num_heads + 1 - tile_.window - first_key_;
      return keys < 0 ? 0 : keys;
    }
    // Keys of this segment that row `row` sees.
    int num_visible(int row) const {
      const int keys = tile_.first_position + row / tile_.num_heads + 1 - first_key_;
      return keys < 0 ? 0 : smaller(keys, num_keys_);
    }
    int group_keys(int row, int rows) const { return num_visible(row + rows - 1); }
    // The panel that holds the first key that any row from `row` on sees.
    int group_panel(int row) const { return smaller(num_hidden(row), num_keys_) / 16; }

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

    // Calls body(number of panels, first panel) over [first, last), as many at
    // once as registers hold.
    template <int kRows, class Body>
    static void tile_panels(int first, int last, Body&& body) {
      constexpr int kAtOnce = L::kAccumulators / kRows < 4 ? L::kAccumulators / kRows : 4;
      int j = first;
      if constexpr (kAtOnce > 1)
        for (; j + kAtOnce <= last; j += kAtOnce) body(Constant<kAtOnce>{}, j);
      for (; j < last; ++j) body(Constant<1>{}, j);
    }

    /// Scores of panels [first, last) for all rows; panel j of K is at k[j -
    /// first], its rows `stride` apart.
    template <bool kPacked>
    void score_all(const float* q, const std::byte* const* k, std::int64_t stride, int first, int last,
                   float* scores) const {
      for_row_groups([&](auto rows, int row) {
        const int end = smaller(last, (group_keys(row, rows) + 15) / 16);
        const int start = group_panel(row);
        tile_panels<rows>(first < start ? start : first, end, [&](auto panels, int j) {
          score<kPacked, rows, panels>(q + row * kScratchStride, k + j - first, stride, j,
                                       scores + row * kScratchStride + 16 * j);
        });
      });
    }
    // Reading the cache itself, a few rows are faster than memory: the panels of K that come next and the V
    // that belongs to these are asked for meanwhile.
    template <bool kPacked, int kRows, int kPanels>
    void score(const float* q, const std::byte* const* tiles, std::int64_t stride, int panel,
               float* scores) const {
      const std::byte *k[kPanels], *next_k[kPanels], *v[kPanels];
      for (int j = 0; j < kPanels; ++j) {
        k[j] = tiles[j];
        next_k[j] = k_[smaller(panel + kPanels + j, num_panels_ahead_ - 1)];
        v[j] = v_[panel + j];
      }
      Sums<kPacked, kRows, kPanels> sums;
      for (const float* end = q + tile_.kv.head_dim; q < end; q += 2) {
        sums.add_two(q, k, stride);
        if constexpr (kPacked)
          for (int j = 0; j < kPanels; ++j, next_k[j - 1] += stride, v[j - 1] += 64) {
            L::prefetch(next_k[j]);
            L::prefetch(v[j]);
          }
      }
      sums.store(scores);
    }

    /// Weighted values in panels [first, last) of dimensions, for all rows; 16
    /// tokens of V are at v[i], their rows `stride` apart.
    template <bool kPacked>
    void weigh_all(const float* weights, const std::byte* const* v, std::int64_t stride, int first, int last,
                   float* values) const {
      for_row_groups([&](auto rows, int row) {
        const int start = group_panel(row);
        tile_panels<rows>(first, last, [&](auto panels, int j) {
          weigh<kPacked, rows, panels>(weights + row * kScratchStride + 16 * start,
                                       group_keys(row, rows) - 16 * start, v + start, 64 * (j - first),
                                       stride, values + row * kScratchStride + 16 * j);
        });
      });
    }
    template <bool kPacked, int kRows, int kPanels>
    static void weigh(const float* weights, int num_keys, const std::byte* const* tiles, int column_bytes,
                      std::int64_t stride, float* values) {
      Sums<kPacked, kRows, kPanels> sums;
      const std::byte* v[kPanels] = {};
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

    // 16 columns of `rows` words at `from`, `stride` apart, as f32 rows one
    // after the other.
    static void widen(const std::byte* from, std::int64_t stride, int rows, float* to) {
      for (int i = 0; i < rows; ++i, from += stride, to += 32) {
        L::even_bf16(from).store(to);
        L::odd_bf16(from).store(to + 16);
      }
    }
    void score_wide(const float* q, float* scores) const {
      const int dim = tile_.kv.head_dim, at_once = kWideFloats / (16 * dim);
      for (int first = first_panel_; first < num_panels(); first += at_once) {
        const int last = smaller(first + at_once, num_panels());
        const std::byte* k[kSegmentTokens / 16];
        for (int j = first; j < last; ++j) {
          float* to = wide_ + (j - first) * 16 * dim;
          if constexpr (kCodes)
            widen_keys(j, to);
          else
            widen(k_[j], 4 * tile_.kv.block_size, dim / 2, to);
          k[j - first] = reinterpret_cast<const std::byte*>(to);
        }
        score_all<false>(q, k, 64, first, last, scores);
      }
    }
    void weigh_wide(const float* weights, float* values) const {
      const int dim = tile_.kv.head_dim;
      const std::byte* v[kSegmentTokens / 16];
      for (int i = 0; i < num_panels(); ++i) v[i] = reinterpret_cast<const std::byte*>(wide_ + i * 256);
      for (int panel = 0; panel < dim / 16; ++panel) {
        for (int i = first_panel_; i < num_panels(); ++i)
          if constexpr (kCodes)
            widen_values(i, panel, wide_ + i * 256);
          else
            widen(v_[i] + 64 * panel, 4 * dim, 8, wide_ + i * 256);
        weigh_all<false>(weights, v, 64, panel, panel + 1, values);
      }
      if (kPairs && dim % 16 != 0) weigh_last_columns(weights, values);
    }
    int offset_of(int panel) const { return (first_key_ + 16 * panel) % tile_.kv.block_size; }
    // The 16 keys of a panel, [dim][16].
    void widen_keys(int panel, float* to) const {
      const int dim = tile_.kv.head_dim, block = tile_.kv.block_size, offset = offset_of(panel);
      const std::byte* codes = k_[panel];
      const std::byte* scales = codes - offset + block * dim + 2 * offset;
      const std::byte* next = k_[smaller(panel + 2, num_panels_ahead_ - 1)];
      for (int first = 0; first < dim; first += 32, scales += 2 * block) {
        const L scale = L::load_half(scales);
        for (int i = 0; i < 32; ++i, codes += block, next += block, to += 16) {
          L::prefetch(next);
          (L::load_int8(codes) * scale).store(to);
        }
      }
    }
    // 16 dimensions of the 16 values of a panel, [token][16].
    void widen_values(int panel, int column, float* to) const {
      const int dim = tile_.kv.head_dim, offset = offset_of(panel), groups = dim / 32;
      const std::byte* codes = v_[panel];
      const std::byte* scales =
          codes + (tile_.kv.block_size - offset) * dim + 2 * (offset * groups + column / 2);
      codes += 16 * column;
      for (int i = 0; i < 16; ++i, codes += dim, scales += 2 * groups, to += 16)
        (L::load_int8(codes) * L::broadcast(L::half_at(scales))).store(to);
    }

    // V's last columns, fewer than 16, are padded to a panel first: to load 16
    // would read past the tile.
    void weigh_last_columns(const float* weights, float* values) const {
      const int dim = tile_.kv.head_dim, first = dim / 16 * 16, rows = kPairs ? 8 : 16;
      const std::byte* v[kSegmentTokens / 16];
      auto* to = reinterpret_cast<std::byte*>(wide_);
      for (int i = 0; i < num_panels(); ++i) {
        v[i] = to;
        for (int row = 0; row < rows; ++row, to += 64)
          __builtin_memcpy(to, v_[i] + (row * dim + first) * 4, static_cast<std::size_t>(dim - first) * 4);
      }
      weigh_all<kPairs>(weights, v, 64, dim / 16, dim / 16 + 1, values);
    }

    /// A register tile: kRows x kPanels sums of sixteen columns. kPacked: of
    /// words that are pairs of bf16.
    template <bool kPacked, int kRows, int kPanels>
    struct Sums {
      L sum[kRows * kPanels];

      [[gnu::always_inline]] Sums() {
        unrolled<kRows * kPanels>([&](auto i) { sum[i] = L::broadcast(0); });
      }
      /// sum[i][j] += a[i][kHalf] times the words at b[j], of which a pair is
      /// half.
      template <int kHalf>
      [[gnu::always_inline]] void add(const float* a, const std::byte* const (&b)[kPanels]) {
        unrolled<kPanels>([&](auto j) {
          const L column = element<kHalf>(b[j]);
          unrolled<kRows>([&](auto i) {
            L& x = sum[i * kPanels + j];
            x = L::multiply_add(L::broadcast(a[i * kScratchStride + kHalf]), column, x);
          });
        });
      }
      template <int kHalf>
      [[gnu::always_inline]] static L element(const std::byte* b) {
        if constexpr (!kPacked) return L::load(reinterpret_cast<const float*>(b));
        return kHalf == 0 ? L::even_bf16(b) : L::odd_bf16(b);
      }
      /// The same for two factors, moving b past them.
      [[gnu::always_inline]] void add_two(const float* a, const std::byte* (&b)[kPanels],
                                          std::int64_t stride) {
        add<0>(a, b);
        if constexpr (!kPacked) advance(b, stride);
        add<1>(a, b);
        advance(b, stride);
      }
      [[gnu::always_inline]] static void advance(const std::byte* (&b)[kPanels], std::int64_t stride) {
        for (const std::byte*& p : b) p += stride;
      }
      void store(float* to) const {
        unrolled<kRows * kPanels>(
            [&](auto i) { sum[i].store(to + i / kPanels * kScratchStride + i % kPanels * 16); });
      }
    };

    void softmax_rows(float* weights, float* state) const {
      for_row_groups([&](int rows, int row) {
        const int start = 16 * group_panel(row), padded = (group_keys(row, rows) + 15) / 16 * 16;
        for (int i = row; i < row + rows; ++i)
          softmax(weights + i * kScratchStride, start, num_hidden(i), num_visible(i), padded,
                  state + i * kScratchStride);
      });
    }
    // Scores to weights in place: 2^(score - largest) from `hidden` to `visible`, 0 from `start` to there and
    // on to `padded`.
    static void softmax(float* row, int start, int hidden, int visible, int padded, float* state) {
      const L never = L::broadcast(-__builtin_huge_valf()), zero = L::broadcast(0);
      const int first = hidden < visible ? hidden / 16 * 16 : padded;
      const auto seen = [&](int i, L x, L otherwise) {
        x = L::first(visible - i, x, otherwise);
        return i < hidden ? L::first(hidden - i, otherwise, x) : x;
      };
      L largest = never;
      for (int i = first; i < visible; i += 16) largest = L::max(largest, seen(i, L::load(row + i), never));
      const float max = largest.largest();
      L sum = zero;
      for (int i = start; i < first; i += 16) zero.store(row + i);
      for (int i = first; i < visible; i += 16) {
        const L weight = seen(i, exp2(L::load(row + i) - L::broadcast(max)), zero);
        weight.store(row + i);
        sum = sum + weight;
      }
      for (int i = (visible + 15) / 16 * 16; i < padded; i += 16) zero.store(row + i);
      state[kStateSum] = sum.sum();
      state[kStateMax] = max;
    }

    const AttentionTile& tile_;
    float* const wide_;
    const int num_rows_, first_key_, num_keys_, first_panel_;
    int num_panels_ahead_;
    // Where each group of 16 tokens starts, and a few of the next segment.
    const std::byte* k_[kSegmentTokens / 16 + kPanelsAhead];
    const std::byte* v_[kSegmentTokens / 16 + kPanelsAhead];
  };
};

template <class L, class Tiles = void>
constexpr AttentionKernels attention_kernels() {
  return {Attention<L, Tiles>::attend_segments, Attention<L, Tiles>::finish};
}

}  // namespace redline::cpu
