// How a model's makers would have its tokens chosen.
#pragma once

#include <cstdint>
#include <optional>

namespace redline {

class Checkpoint;

/// What generation_config.json, or a GGUF's general.sampling.* keys, say; nothing where they do not.
struct SamplingDefaults {
  std::optional<float> temperature{}, top_p{}, min_p{}, repetition_penalty{};
  std::optional<std::int32_t> top_k{};
};

/// Throws ModelFileError naming the key for another type or a value out of range.
SamplingDefaults read_sampling_defaults(const Checkpoint& checkpoint);

}  // namespace redline
