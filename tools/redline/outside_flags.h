// What a user says of a server that is looked at from outside: its model, its device, how it was started.
#pragma once

#include <optional>
#include <string>

#include "engine/meter/outside_meter.h"
#include "tools/load/outside_page.h"
#include "tools/redline/flags.h"

namespace redline {

class OutsideFlags {
 public:
  /// All flags but --model.
  void add_to(Flags& flags);

  std::string model;  // a model reference, or a directory with config.json alone; empty: not asked for

  /// A server's model on its device. Throws UsageError for a device that is not known, ModelFileError.
  struct Subject {
    Estimate estimate;
    OutsideDevice device;
    load::ServerLimits limits;

    /// Completes what load::view_between began.
    OutsideView seen(OutsideView view) const;
  };
  Subject subject() const;

 private:
  std::string on_ = "this";
  std::optional<DType> dtype_;
  DType kv_dtype_ = DType::kBF16;
  std::int32_t num_devices_ = 1;
  std::int64_t most_sequences_ = 0, most_rows_ = 0, longest_ = 0;
};

}  // namespace redline
