#include "engine/meter/pictures.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/meter/format.h"
#include "engine/meter/svg.h"

namespace redline {
namespace {

constexpr double kWidth = 760, kLeft = 84, kRight = 24, kTop = 64;
constexpr double kPause = 3;  // times a step's length: after it a line ends
constexpr const char* kPhaseDots[kNumPhases] = {"prefill", "decode"};
constexpr const char* kPhaseStyle =
    "  .prefill { fill: var(--blue); stroke: var(--blue); } .decode { fill: var(--red); stroke: var(--red); "
    "}\n"
    "  .line.prefill, .line.decode { fill: none; } .roof { stroke: var(--ink); } .other { stroke: "
    "var(--soft);"
    " stroke-dasharray: 4 4; }\n";

struct Roof {
  std::string name;
  double flops_per_s = 0, bytes_per_s = 0;
  bool is_other = false;
};

std::vector<Roof> roofs_of(const DevicePeaks& device, const std::vector<const HardwareSpec*>& others) {
  std::vector<Roof> roofs;
  const Peaks vendor = device.vendor(), attainable = device.attainable();
  const Peaks& peaks = vendor.bandwidth > 0 ? vendor : attainable;
  for (std::size_t i = 0; i < kNumComputeTypes; ++i)
    if (peaks.flops[i] > 0 && peaks.bandwidth > 0)
      roofs.push_back({kComputeTypeNames[i], peaks.flops[i], peaks.bandwidth});
  for (const HardwareSpec* spec : others)
    roofs.push_back({spec->name, spec->flops[static_cast<std::size_t>(ComputeType::kBF16)].value,
                     spec->bandwidth.value, true});
  return roofs;
}

double intensity(const MeteredStep& step) {
  return static_cast<double>(step.flops) / static_cast<double>(step.bytes);
}
double rate(const MeteredStep& step) { return static_cast<double>(step.flops) / step.busy_s; }
bool has_place(const MeteredStep& step) { return step.flops > 0 && step.bytes > 0 && step.busy_s > 0; }

std::string si(double value) { return format_si(value, ""); }

// Marks of a logarithmic axis as 1, 10, 100, 1 k.
std::string power(double value) { return value >= 1000 ? si(value) : svg_number(value); }

void legend(Svg& svg) {
  double x = kLeft;
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    svg.dot(kPhaseDots[p], x, 42, 5, "");
    svg.text(x + 10, 46, "soft", "start", kPhaseNames[p]);
    x += 80;
  }
}

}  // namespace

std::vector<MeteredStep> metered_steps(const StepCounts& step, double end_s, const Peaks& peaks) {
  std::vector<MeteredStep> found;
  for (const Phase phase : kAllPhases) {
    const auto p = static_cast<std::size_t>(phase);
    const Counts& c = step.phase[p];
    if (c.tokens == 0 || step.busy_ns[p] <= 0) continue;
    const double busy_s = step.busy_ns[p] * 1e-9;
    found.push_back({phase, end_s, busy_s, c.useful_flops(), c.min_bytes(),
                     seconds_at(peaks, c.flops_by_type).value_or(0) / busy_s});
  }
  return found;
}

std::string roofline_svg(const DevicePeaks& device, const std::vector<const HardwareSpec*>& others,
                         const std::vector<MeteredStep>& steps) {
  constexpr double kHeight = 470;
  const std::vector<Roof> roofs = roofs_of(device, others);
  double least_x = 0.3, most_x = 3, least_y = 1e30, most_y = 0;
  const auto cover = [&](double x, double y) {
    least_x = std::min(least_x, x), most_x = std::max(most_x, x);
    least_y = std::min(least_y, y), most_y = std::max(most_y, y);
  };
  for (const Roof& roof : roofs) cover(2 * roof.flops_per_s / roof.bytes_per_s, roof.flops_per_s);
  for (const MeteredStep& step : steps)
    if (has_place(step)) cover(intensity(step), rate(step));
  if (most_y <= 0) least_y = most_y = 1;
  for (const Roof& roof : roofs) least_y = std::min(least_y, least_x * roof.bytes_per_s);

  const SvgPanel panel{kLeft, kTop, kWidth - kLeft - kRight, kHeight - kTop - 56};
  const SvgAxis x = SvgAxis::log(least_x, most_x), y = SvgAxis::log(least_y, most_y);
  Svg svg(kWidth, kHeight, "Roofline", kPhaseStyle);
  svg.text(kLeft, 24, "title", "start", "Roofline: " + device.device_name);
  legend(svg);
  svg.axes(panel, x, y, "", power, si);
  svg.text(kLeft + panel.width, 46, "soft", "end", "FLOP/s against FLOPs per byte; a dot a step");
  svg.text(kLeft + panel.width / 2, kHeight - 14, "soft", "middle", "FLOPs per byte of compulsory traffic");
  double label_shift = 0;  // lines that lie close have their labels side by side
  for (const Roof& roof : roofs) {
    const double ridge = roof.flops_per_s / roof.bytes_per_s;
    const double start = std::max(x.begin, y.begin / roof.bytes_per_s);
    std::vector<std::pair<double, double>> line;
    line.emplace_back(panel.x(x, start), panel.y(y, start * roof.bytes_per_s));
    if (ridge < x.end) line.emplace_back(panel.x(x, ridge), panel.y(y, roof.flops_per_s));
    line.emplace_back(panel.x(x, x.end), panel.y(y, std::min(roof.flops_per_s, x.end * roof.bytes_per_s)));
    svg.path(roof.is_other ? "line other" : "line roof", line);
    label_shift = roof.is_other || label_shift > 0 ? 0 : 190;
    svg.text(
        line.back().first - 4 - label_shift, line.back().second - 5, "soft halo", "end",
        roof.name + ", " + format_si(roof.flops_per_s, "FLOP/s") + ", " + format_si(roof.bytes_per_s, "B/s"));
  }
  for (const MeteredStep& step : steps)
    if (has_place(step))
      svg.dot(kPhaseDots[static_cast<std::size_t>(step.phase)], panel.x(x, intensity(step)),
              panel.y(y, rate(step)), 4,
              std::string(kPhaseNames[static_cast<int>(step.phase)]) + ": " +
                  format_si(rate(step), "FLOP/s") + " at " + format_number(intensity(step)) + " FLOP/B");
  return svg.finish();
}

std::string waterfall_svg(const std::vector<NamedWaterfall>& bars) {
  constexpr double kRow = 40, kBarHeight = 24, kNames = 150, kLegend = 58;
  constexpr const char* kStyle =
      "  .t0 { fill: var(--grid); } .t1 { fill: var(--soft); } .t2 { fill: var(--violet); } .t3 { fill: "
      "#8a5a44; }\n"
      "  .t4 { fill: var(--amber); } .t5 { fill: #4c7fd0; } .t6 { fill: var(--red); } .t7 { fill: "
      "var(--green); }\n";
  const double height = kTop + kLegend + kRow * static_cast<double>(bars.size());
  Svg svg(kWidth, height, "Waterfall", kStyle);
  svg.text(24, 24, "title", "start", "Where the time went");
  for (std::size_t i = 0; i < kNumTerms; ++i) {
    const double x = 24 + 180 * static_cast<double>(i % 4), y = 46 + 22 * static_cast<double>(i / 4);
    svg.bar("t" + std::to_string(i), x, y - 10, 12, 12, "");
    svg.text(x + 18, y, "soft", "start", term_words(static_cast<Term>(i)));
  }
  double y = kTop + 32;
  for (const NamedWaterfall& bar : bars) {
    const double width = kWidth - kNames - kRight, wall_s = bar.terms.wall_s();
    svg.text(24, y + kBarHeight - 8, "", "start", bar.name);
    double x = kNames;
    const std::array<double, kNumTerms> shown = drawn_shares(bar.terms);
    for (std::size_t i = 0; i < kNumTerms; ++i) {
      if (shown[i] <= 0) continue;
      svg.bar("t" + std::to_string(i), x, y, width * shown[i], kBarHeight,
              term_words(static_cast<Term>(i)) + ": " + format_duration(bar.terms.seconds[i]) + " of " +
                  format_duration(wall_s) + ", " + format_percent(bar.terms.seconds[i] / wall_s));
      x += width * shown[i];
    }
    y += kRow;
  }
  return svg.finish();
}

std::string mfu_svg(const std::vector<MeteredStep>& steps) {
  constexpr double kHeight = 320;
  double end_s = 0, most = 0;
  for (const MeteredStep& step : steps) {
    end_s = std::max(end_s, step.end_s);
    most = std::max(most, step.mfu);
  }
  const SvgPanel panel{kLeft, kTop, kWidth - kLeft - kRight, kHeight - kTop - 56};
  const SvgAxis x = SvgAxis::linear(end_s), y = SvgAxis::linear(100 * most);
  Svg svg(kWidth, kHeight, "MFU over time", kPhaseStyle);
  svg.text(kLeft, 24, "title", "start", "MFU over time, while busy, %");
  legend(svg);
  svg.axes(panel, x, y, "");
  svg.text(kLeft + panel.width / 2, kHeight - 14, "soft", "middle", "seconds");
  for (const Phase phase : kAllPhases) {
    const auto p = static_cast<std::size_t>(phase);
    std::vector<std::pair<double, double>> line;
    double last_s = 0;
    for (const MeteredStep& step : steps) {
      if (step.phase != phase || step.mfu <= 0) continue;
      if (step.end_s - last_s > kPause * step.busy_s && !line.empty())
        svg.path(std::string("line ") + kPhaseDots[p], std::exchange(line, {}));
      line.emplace_back(panel.x(x, step.end_s), panel.y(y, 100 * step.mfu));
      svg.dot(kPhaseDots[p], line.back().first, line.back().second, 2.5, "");
      last_s = step.end_s;
    }
    if (!line.empty()) svg.path(std::string("line ") + kPhaseDots[p], line);
  }
  return svg.finish();
}

std::string HtmlReport::html() const {
  std::string out =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n<title>" +
      escape_markup(title) +
      "</title>\n<style>\n"
      "  body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2rem auto; padding: 0 1rem;"
      " overflow-wrap: anywhere; background: #ffffff; color: #1c1e21; }\n"
      "  @media (prefers-color-scheme: dark) { body { background: #16181b; color: #eceef0; } }\n"
      "  div { overflow-x: auto; } table { border-collapse: collapse; } th, td { padding: 2px 10px;"
      " text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }\n"
      "  svg { width: 100%; height: auto; }\n</style>\n</head>\n<body>\n<h1>" +
      escape_markup(title) + "</h1>\n";
  for (const std::string& line : summary) out += "<p>" + escape_markup(line) + "</p>\n";
  if (!table.empty()) out += "<div><table>\n";
  for (std::size_t i = 0; i < table.size(); ++i) {
    const std::string cell = i == 0 ? "th" : "td";
    out += "<tr>";
    for (const std::string& text : table[i])
      out += "<" + cell + ">" + escape_markup(text) + "</" + cell + ">";
    out += "</tr>\n";
  }
  if (!table.empty()) out += "</table></div>\n";
  for (const Section& section : sections) {
    out += "<section>\n<h2>" + escape_markup(section.heading) + "</h2>\n";
    for (const std::string& sentence : section.sentences) out += "<p>" + escape_markup(sentence) + "</p>\n";
    out += section.svg + "</section>\n";
  }
  return out + "</body>\n</html>\n";
}

}  // namespace redline
