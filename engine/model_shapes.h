// Shapes of well-known models, for benchmarks and plans without their weights.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/model_config.h"

namespace redline {

/// The configuration of the model called `name` ("llama-3.2-1b"), or nothing.
std::optional<ModelConfig> named_shape(std::string_view name);

/// Every name, joined by ", ".
std::string shape_names();

}  // namespace redline
