#include "tools/load/plot.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "engine/meter/svg.h"

namespace redline::load {
namespace {

constexpr double kWidth = 760, kPanelHeight = 250, kLeft = 72, kRight = 24, kTop = 92, kGap = 64,
                 kBottom = 56;

constexpr const char* kStyle =
    "  .p50 { stroke: var(--red); } .p99 { stroke: var(--blue); stroke-dasharray: 5 4; }\n"
    "  .dot50 { fill: var(--red); } .dot99 { fill: var(--blue); }\n";

double throughput(const LoadPoint& point) {
  const Statistics& s = point.statistics;
  return s.duration_s > 0 ? static_cast<double>(s.output_tokens) / s.duration_s : 0;
}

class Picture {
 public:
  explicit Picture(const std::vector<LoadPoint>& points)
      : points_(points),
        x_(SvgAxis::linear(largest(throughput))),
        svg_(kWidth, kHeight, "Throughput against latency", kStyle) {}

  std::string draw() {
    const LoadPoint& first = points_.front();
    svg_.text(kLeft, 26, "title", "start", first.model + (first.label.empty() ? "" : ", " + first.label));
    svg_.text(kLeft, 46, "soft", "start", "solid: median, dashed: 99th percentile; each mark is one load");
    panel(kTop, "time to the first token, ms", &Statistics::ttft_ms);
    panel(kTop + kPanelHeight + kGap, "time per output token, ms", &Statistics::tpot_ms);
    svg_.text((kLeft + kWidth - kRight) / 2, kHeight - 14, "soft", "middle", "output tokens per second");
    return svg_.finish();
  }

 private:
  static constexpr double kHeight = kTop + 2 * kPanelHeight + kGap + kBottom;

  double largest(const std::function<double(const LoadPoint&)>& figure) const {
    double most = 0;
    for (const LoadPoint& point : points_) most = std::max(most, figure(point));
    return most;
  }

  void panel(double top, const std::string& title, Summary Statistics::*summary) {
    const SvgPanel panel{kLeft, top, kWidth - kLeft - kRight, kPanelHeight};
    const SvgAxis y =
        SvgAxis::linear(largest([&](const LoadPoint& point) { return (point.statistics.*summary).p99; }));
    svg_.axes(panel, x_, y, title);
    for (const auto& [name, figure] : {std::pair{"99", &Summary::p99}, std::pair{"50", &Summary::p50}}) {
      std::vector<std::pair<double, double>> line;
      for (const LoadPoint& point : points_)
        line.emplace_back(panel.x(x_, throughput(point)), panel.y(y, point.statistics.*summary.*figure));
      svg_.path(std::string("line p") + name, line);
      for (std::size_t i = 0; i < points_.size(); ++i)
        svg_.dot(std::string("dot") + name, line[i].first, line[i].second, 4,
                 describe_load(points_[i]) + ": " + svg_number(throughput(points_[i])) + " tokens/s, " +
                     svg_number(points_[i].statistics.*summary.*figure) + " ms");
    }
    for (const LoadPoint& point : points_) {
      const double x = panel.x(x_, throughput(point));
      const bool at_the_edge = x > kWidth - 120;
      svg_.text(x + (at_the_edge ? -8 : 8), panel.y(y, (point.statistics.*summary).p99) - 9, "soft halo",
                at_the_edge ? "end" : "start", describe_load(point));
    }
  }

  const std::vector<LoadPoint>& points_;
  const SvgAxis x_;
  Svg svg_;
};

}  // namespace

std::string to_svg(const std::vector<LoadPoint>& points) { return Picture(points).draw(); }

}  // namespace redline::load
