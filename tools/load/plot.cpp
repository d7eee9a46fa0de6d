#include "tools/load/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <utility>

namespace redline::load {
namespace {

constexpr double kWidth = 760, kPanelHeight = 250, kLeft = 72, kRight = 24, kTop = 92, kGap = 64,
                 kBottom = 56;

constexpr const char* kStyle =
    "<style>\n"
    "  svg { --paper: #ffffff; --ink: #1c1e21; --soft: #6a7078; --grid: #e6e8eb; --p50: #c8102e; --p99: "
    "#1f6f8b;"
    " font: 13px system-ui, sans-serif; }\n"
    "  @media (prefers-color-scheme: dark) { svg { --paper: #16181b; --ink: #eceef0; --soft: #9aa1a9;"
    " --grid: #2c3035; --p50: #ff5a6e; --p99: #62b6d2; } }\n"
    "  .paper { fill: var(--paper); } text { fill: var(--ink); } .soft { fill: var(--soft); font-size: 12px; "
    "}\n"
    "  .load { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }\n"
    "  .title { font-size: 16px; font-weight: 600; } .grid { stroke: var(--grid); }\n"
    "  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }\n"
    "  .p50 { stroke: var(--p50); } .p99 { stroke: var(--p99); stroke-dasharray: 5 4; }\n"
    "  .dot50 { fill: var(--p50); } .dot99 { fill: var(--p99); }\n"
    "</style>\n";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value);
  return text;
}

// An axis from 0 with four to eight steps of 1, 2 or 5 times a power of ten.
struct Axis {
  double step = 1, end = 1;

  explicit Axis(double largest) {
    if (!(largest > 0)) return;
    step = std::pow(10, std::floor(std::log10(largest / 4)));
    for (const double factor : {2.0, 2.5, 2.0})
      if (largest / step > 8) step *= factor;
    end = std::ceil(largest / step) * step;
  }
};

double throughput(const LoadPoint& point) {
  const Statistics& s = point.statistics;
  return s.duration_s > 0 ? static_cast<double>(s.output_tokens) / s.duration_s : 0;
}

class Picture {
 public:
  explicit Picture(const std::vector<LoadPoint>& points) : points_(points), x_(largest(throughput)) {}

  std::string draw() {
    const double height = kTop + 2 * kPanelHeight + kGap + kBottom;
    svg_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(kWidth) + " " +
           number(height) + "\" role=\"img\">\n<title>Throughput against latency</title>\n" + kStyle +
           "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n";
    const LoadPoint& first = points_.front();
    text(kLeft, 26, "title", "start", first.model + (first.label.empty() ? "" : ", " + first.label));
    text(kLeft, 46, "soft", "start", "solid: median, dashed: 99th percentile; each mark is one load");
    panel(kTop, "time to the first token, ms", &Statistics::ttft_ms);
    panel(kTop + kPanelHeight + kGap, "time per output token, ms", &Statistics::tpot_ms);
    text((kLeft + kWidth - kRight) / 2, height - 14, "soft", "middle", "output tokens per second");
    return svg_ + "</svg>\n";
  }

 private:
  double largest(const std::function<double(const LoadPoint&)>& figure) const {
    double most = 0;
    for (const LoadPoint& point : points_) most = std::max(most, figure(point));
    return most;
  }
  double x(double value) const { return kLeft + value / x_.end * (kWidth - kLeft - kRight); }

  void panel(double top, const std::string& title, Summary Statistics::*summary) {
    const Axis y_axis(largest([&](const LoadPoint& point) { return (point.statistics.*summary).p99; }));
    const auto y = [&](double value) { return top + kPanelHeight * (1 - value / y_axis.end); };
    text(kLeft, top - 10, "", "start", title);
    for (double value = 0; value <= y_axis.end * 1.0001; value += y_axis.step) {
      line(kLeft, y(value), kWidth - kRight, y(value));
      text(kLeft - 8, y(value) + 4, "soft", "end", number(value));
    }
    for (double value = 0; value <= x_.end * 1.0001; value += x_.step)
      text(x(value), top + kPanelHeight + 18, "soft", "middle", number(value));
    for (const auto& [name, figure] : {std::pair{"99", &Summary::p99}, std::pair{"50", &Summary::p50}}) {
      std::string path, dots;
      for (const LoadPoint& point : points_) {
        const double value = point.statistics.*summary.*figure;
        const std::string at = number(x(throughput(point))) + " " + number(y(value));
        path += (path.empty() ? "M " : " L ") + at;
        dots += "<circle class=\"dot" + std::string(name) + "\" cx=\"" + number(x(throughput(point))) +
                "\" cy=\"" + number(y(value)) + "\" r=\"4\"><title>" + escaped(describe_load(point)) + ": " +
                number(throughput(point)) + " tokens/s, " + number(value) + " ms</title></circle>\n";
      }
      svg_ += "<path class=\"line p" + std::string(name) + "\" d=\"" + path + "\"/>\n" + dots;
    }
    for (const LoadPoint& point : points_) {
      const bool at_the_edge = x(throughput(point)) > kWidth - 120;
      text(x(throughput(point)) + (at_the_edge ? -8 : 8), y((point.statistics.*summary).p99) - 9, "soft load",
           at_the_edge ? "end" : "start", describe_load(point));
    }
  }
  void line(double x1, double y1, double x2, double y2) {
    svg_ += "<line class=\"grid\" x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) +
            "\" y2=\"" + number(y2) + "\"/>\n";
  }
  void text(double at_x, double at_y, const std::string& style, const std::string& anchor,
            const std::string& words) {
    svg_ += "<text class=\"" + style + "\" x=\"" + number(at_x) + "\" y=\"" + number(at_y) +
            "\" text-anchor=\"" + anchor + "\">" + escaped(words) + "</text>\n";
  }

  const std::vector<LoadPoint>& points_;
  const Axis x_;
  std::string svg_;
};

}  // namespace

std::string to_svg(const std::vector<LoadPoint>& points) { return Picture(points).draw(); }

}  // namespace redline::load
