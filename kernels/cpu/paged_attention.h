// Shares one layer's attention out over threads: tiles of query rows, long ones cut into segments of keys.
#pragma once

#include <vector>

#include "kernels/batch.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace redline::cpu {

class PagedAttention {
 public:
  PagedAttention(const AttentionKernels& kernels, ThreadPool& pool);

  /// Ops::paged_attention. Requires a cache in f32 or bf16, blocks of a multiple of 16 tokens, and an even
  /// head dim of at most 256.
  void run(const BatchView& batch, TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv,
           float scale, int window);

 private:
  // A tile with all of its segments, or one segment of a tile that is cut.
  struct Unit {
    int tile;
    int first_segment, last_segment;
    bool cut;
  };
  struct Cut {
    std::int64_t first_state = 0;  // in floats
    int first_segment = 0;
    int num_segments = 0;
    int remaining = 0;  // segments; whoever finishes the last merges them
  };

  void make_tiles(const BatchView& batch, TensorView out, TensorView qkv, int num_q_heads,
                  const KvLayerView& kv, float scale, int window);
  void make_units();
  void run_unit(const Unit& unit, int thread);

  const AttentionKernels& kernels_;
  ThreadPool& pool_;
  std::vector<Buffer> scratch_;  // by thread: kAttentionScratch floats, then a state
  Buffer states_;                // of the segments of tiles that are cut
  std::vector<AttentionTile> tiles_;
  std::vector<Cut> cuts_;  // by tile
  std::vector<Unit> units_;
};

}  // namespace redline::cpu
