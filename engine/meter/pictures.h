// Pictures of a run as SVG: the roofline with its steps, the waterfall, MFU over time; and a page of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/meter/device_peaks.h"
#include "engine/meter/hardware.h"
#include "engine/meter/waterfall.h"

namespace redline {

/// A step, or what one phase did in it.
struct MeteredStep {
  Phase phase{};
  double end_s = 0;  // after the run's start
  double busy_s = 0;
  std::int64_t flops = 0, bytes = 0;  // useful FLOPs, compulsory traffic
  double mfu = 0;                     // while busy; 0 where a peak is unknown
};

/// What the phases of `step` did, those that did nothing left out.
std::vector<MeteredStep> metered_steps(const StepCounts& step, double end_s, const Peaks& peaks);

/// FLOP/s against FLOPs per byte, both logarithmic: `device`'s roof for each arithmetic whose peak is known
/// (the vendor's where bandwidth's is too, else the attainable one), bf16's of `others`, and a point a step.
/// A device without known peaks has no roof.
std::string roofline_svg(const DevicePeaks& device, const std::vector<const HardwareSpec*>& others,
                         const std::vector<MeteredStep>& steps);

struct NamedWaterfall {
  std::string name;
  Waterfall terms;
};
/// A bar each, as shares of its own wall time. Work faster than its roofline is taken off the memory-bound
/// penalty.
std::string waterfall_svg(const std::vector<NamedWaterfall>& bars);

/// MFU while busy, step by step.
std::string mfu_svg(const std::vector<MeteredStep>& steps);

/// A self-contained page: no scripts, nothing fetched.
struct HtmlReport {
  std::string title;
  std::vector<std::string> summary;             // lines
  std::vector<std::vector<std::string>> table;  // the first row is its head
  struct Section {
    std::string heading;
    std::vector<std::string> sentences;
    std::string svg;
  };
  std::vector<Section> sections;

  std::string html() const;
};

}  // namespace redline
