// The ledger: what every operation cost, counted where it is launched (docs/accounting.md derives the
// formulas).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/batch.h"
#include "kernels/dtype.h"
#include "kernels/window.h"

namespace redline {

/// The part of the model that an operation belongs to. FLOPs of kOther (norms, RoPE, activation, sampling)
/// are kept apart from useful and executed work: MFU does not know them.
enum class Part : std::uint8_t { kProjections, kAttention, kFfn, kHead, kOther };
inline constexpr int kNumParts = 5;
inline constexpr const char* kPartNames[kNumParts] = {"projections", "attention", "ffn", "head", "other"};

enum class OpKind : std::uint8_t {
  kEmbed,
  kCopy,
  kRmsNorm,
  kAddRmsNorm,
  kRmsNormAdd,
  kLinear,
  kLinearSiluMul,
  kSiluMul,
  kRopeAndStoreKv,
  kPagedAttention,
  kGatherRows,
  kCopyKvBlocks,
  kAllReduce,
};
inline constexpr int kNumOpKinds = 13;
inline constexpr const char* kOpKindNames[kNumOpKinds] = {
    "embed",           "copy",     "rms_norm",          "add_rms_norm",    "rms_norm_add", "linear",
    "linear_silu_mul", "silu_mul", "rope_and_store_kv", "paged_attention", "gather_rows",  "copy_kv_blocks",
    "all_reduce"};

/// What the rows of an operation are: the step's tokens or its logit rows.
enum class RowBasis : std::uint8_t { kTokens, kLogits };

/// The cost of one operation as a function of the views it was given. One fused multiply-add is 2 FLOPs. A
/// "pair" is a (query, key) pair under the causal mask and within `window`; KV terms count tokens of one
/// layer.
struct OpCost {
  OpKind kind{};
  Part part = Part::kOther;
  ComputeType compute = ComputeType::kF32;
  RowBasis basis = RowBasis::kTokens;
  std::int64_t flops_per_row = 0;
  std::int64_t flops_per_pair = 0;
  std::int64_t weight_bytes = 0;             // at the type's own size, read once per step
  std::int64_t weight_bytes_stored = 0;      // as packed
  std::int64_t gathered_bytes_per_row = 0;   // embedding rows, at the type's own size; counted as weights
  bool holds_gathered_rows = false;          // a tied head: this weight is the table whose rows were gathered
  std::int64_t window = 0;                   // keys that a query sees at most; 0: all
  int kv_block_size = 0;                     // where window is not 0
  std::int64_t kv_read_bytes_per_token = 0;  // times cached tokens in the window
  std::int64_t kv_write_bytes_per_token = 0;  // times new tokens
  std::int64_t activation_bytes_per_row = 0;  // read and written
  std::int64_t copied_bytes = 0;              // read and written whatever the rows: whole cache blocks
};

/// Exact integer counts. `weights + kv_read + kv_write` is the compulsory traffic B_min and holds useful work
/// only. Int64 holds 9.2e18 FLOPs: 100 days at 1 TFLOP/s, 2.6 hours at 1 PFLOP/s.
struct Counts {
  std::int64_t tokens = 0;         // useful token rows
  std::int64_t wasted_tokens = 0;  // token rows executed in vain: computed before, or never delivered
  std::array<std::int64_t, kNumParts> flops{};         // useful; [kOther] is outside useful and executed
  std::array<std::int64_t, kNumParts> wasted_flops{};  // likewise, of work that was not useful
  std::array<std::int64_t, kNumComputeTypes> flops_by_type{};  // useful, kOther left out
  std::array<std::int64_t, kNumComputeTypes> wasted_flops_by_type{};
  std::int64_t weights = 0;
  std::int64_t kv_read = 0;  // blocks shared by sequences once
  std::int64_t kv_write = 0;
  std::int64_t kv_read_logical = 0;  // shared blocks once per reader
  std::int64_t activations = 0;      // executed
  std::int64_t wasted_bytes = 0;     // B_min's three kinds of traffic for work that was not useful
  std::int64_t declared = 0;         // executed, as kernels say: packed weights, KV, activations, copies

  std::int64_t useful_flops() const { return all_but_other(flops); }
  std::int64_t executed_flops() const { return useful_flops() + all_but_other(wasted_flops); }
  std::array<std::int64_t, kNumComputeTypes> executed_flops_by_type() const;
  std::int64_t min_bytes() const { return weights + kv_read + kv_write; }
  /// The same work had it been in vain: nothing useful, everything executed.
  Counts as_wasted() const;
  Counts& operator+=(const Counts& other);
  Counts& operator-=(const Counts& other);
  bool operator==(const Counts&) const = default;

 private:
  static constexpr std::int64_t all_but_other(const std::array<std::int64_t, kNumParts>& by_part) {
    return by_part[0] + by_part[1] + by_part[2] + by_part[3];
  }
};

/// Rates that operations are held against, per second; 0 where unknown.
struct Peaks {
  std::array<double, kNumComputeTypes> flops{};
  double bandwidth = 0;
};

/// What a step's operations of one kind took of one phase. The roofline and the FLOPs are executed work's;
/// not a number where a peak that they need is unknown.
struct KindTimes {
  double busy_ns = 0;                // measured; 0 where the backend does not time operations one by one
  double compute_ns_attainable = 0;  // FLOPs that MFU knows, at their peaks
  double compute_ns_vendor = 0;
  double roofline_ns_attainable = 0;  // sum of max(FLOPs / peak, declared bytes / bandwidth)
  double roofline_ns_vendor = 0;

  KindTimes& operator+=(const KindTimes& other);
  KindTimes& operator-=(const KindTimes& other);
};

/// One step as the ledger saw it. Times in nanoseconds on the device's clock (kernel time on a CPU). In a
/// step that mixes phases, counts are exact and times are split by each kind's roofline share: an estimate.
struct StepCounts {
  std::array<Counts, kNumPhases> phase;
  std::vector<Counts> sequences;  // in the batch's order; each phase is exactly the sum of its sequences
  std::array<double, kNumPhases> busy_ns{};
  // Sum over operations of max(FLOPs / peak, declared bytes / bandwidth), executed work; 0 where the peak of
  // any of them is unknown.
  std::array<double, kNumPhases> ideal_ns_attainable{};
  std::array<double, kNumPhases> ideal_ns_vendor{};
  std::array<std::int64_t, kNumOpKinds> kind_ns{};
  std::array<std::int32_t, kNumOpKinds> kind_calls{};
  std::array<std::array<KindTimes, kNumOpKinds>, kNumPhases> kinds{};  // a phase's times are their sums
};

/// Charged by Ops alone. begin_step fixes the geometry; charges add coefficients; end_step multiplies out, so
/// that every total is the sum of the sequences' shares by construction. Weight traffic is shared by token.
class Ledger {
 public:
  using Clock = std::chrono::steady_clock;

  /// Off: charges and clocks are skipped and steps report zeros. Only the benchmark of the meter's own cost
  /// uses it.
  void set_enabled(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }
  void set_peaks(const Peaks& attainable, const Peaks& vendor);

  void begin_step(const BatchView& batch);
  /// Adds `cost`; requires a step begun. `rows` is the operation's row count, which must match its basis.
  void charge(const OpCost& cost, std::int64_t rows);
  /// The operation charged last starts now: when the step's operation before it was done. One reading of the
  /// clock an operation; what the host does between two, some tens of nanoseconds, counts with the second.
  void op_begins() {
    if (enabled_ && last_op_done_ == Clock::time_point{}) last_op_done_ = Clock::now();
  }
  /// It ran until now.
  void op_done(OpKind kind);
  /// Work of the step took `busy_ns` on the device's clock, whatever its operations.
  void add_busy(std::int64_t busy_ns) {
    if (enabled_) busy_ns_ += busy_ns;
  }
  /// The step's counts; valid until the next begin_step.
  const StepCounts& end_step();

 private:
  struct Geometry {  // executed rows of a step, or of one phase of it
    std::int64_t tokens = 0, logits = 0;
    std::int64_t rows(RowBasis basis) const { return basis == RowBasis::kLogits ? logits : tokens; }
  };
  struct Reach {  // of a step's queries, or of one phase's
    std::int64_t pairs = 0, cached_tokens = 0;
  };
  using PartByType = std::array<std::array<std::int64_t, kNumComputeTypes>, kNumParts>;
  // What operations of one window have in common: the step's geometry, and what they charged.
  struct Window {
    std::int64_t size = 0;
    Reach whole;
    std::array<Reach, kNumPhases> by_phase{};
    std::vector<std::int64_t> cached_unique;  // by sequence
    PartByType flops_per_pair{};
    std::int64_t kv_read_per_token = 0;
  };

  bool enabled_ = true;
  Peaks attainable_, vendor_;
  BatchView batch_;
  std::vector<SequenceWork> sequences_;
  Geometry whole_;
  std::array<Geometry, kNumPhases> by_phase_{};

  bool is_mixed() const { return by_phase_[0].tokens > 0 && by_phase_[1].tokens > 0; }
  Window& window_of(const OpCost& cost);
  struct OpTime {  // at the peaks; not a number where one is unknown
    double compute_ns = 0, roofline_ns = 0;
  };
  OpTime time_at(const Peaks& peaks, const OpCost& cost, const Geometry& work, const Reach& reach) const;
  void charge_time(const OpCost& cost, const Window* window);
  void count_flops(const SequenceWork& s, Counts& c) const;
  void split_times();

  PartByType flops_per_token_{}, flops_per_logit_{};
  std::vector<Window> windows_;                                // that attention of this step has had
  std::int64_t weight_bytes_[2]{}, weight_bytes_stored_[2]{};  // by RowBasis
  std::int64_t gathered_per_token_ = 0;
  bool gathered_table_is_read_whole_ = false;
  std::int64_t kv_write_per_token_ = 0;
  std::int64_t activations_per_token_ = 0, activations_per_logit_ = 0;
  std::int64_t copied_bytes_ = 0;
  std::int64_t busy_ns_ = 0;
  Clock::time_point last_op_done_{};                  // unset before a step's first operation
  std::array<KindTimes, kNumOpKinds> whole_kinds_{};  // the rooflines of both phases together
  // Roofline time against the best known peaks, for the split.
  std::array<std::array<double, kNumOpKinds>, kNumPhases> share_{};
  StepCounts step_;
};

}  // namespace redline
