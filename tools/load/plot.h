// Throughput against latency as a picture.
#pragma once

#include <string>
#include <vector>

#include "tools/load/result.h"

namespace redline::load {

/// A self-contained SVG, for light and dark pages: output tokens a second across, time to the first token and
/// time per output token (medians and 99th percentiles) upwards, a mark for each point. Requires a point.
std::string to_svg(const std::vector<LoadPoint>& points);

}  // namespace redline::load
