#include "server/prometheus.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace redline::server {
namespace {

constexpr double kSecondBounds[] = {1e-4,   1.6e-4, 2.5e-4, 4e-4,  6.3e-4, 1e-3,  1.6e-3, 2.5e-3, 4e-3,
                                    6.3e-3, 0.01,   0.016,  0.025, 0.04,   0.063, 0.1,    0.16,   0.25,
                                    0.4,    0.63,   1,      1.6,   2.5,    4,     6.3,    10,     16,
                                    25,     40,     63,     100,   160,    250,   400,    630,    1000};
constexpr double kTokenBounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

}  // namespace

void Histogram::observe(double value) {
  const auto range = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  ++counts_[static_cast<std::size_t>(range)];
  sum_ += value;
  ++count_;
}

std::span<const double> second_bounds() { return kSecondBounds; }
std::span<const double> token_bounds() { return kTokenBounds; }

std::string label_text(std::string_view key, std::string_view value) {
  std::string text = std::string(key) + "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n')
      text += "\\n";
    else
      text += c;
  }
  return text + "\"";
}

void MetricsPage::begin(std::string_view name, std::string_view type, std::string_view help) {
  end();
  name_ = name;
  type_ = type;
  help_ = help;
}

void MetricsPage::sample(Labels labels, double value) { add("", labels, number(value)); }
void MetricsPage::sample(Labels labels, std::int64_t value) { add("", labels, std::to_string(value)); }

void MetricsPage::histogram(std::string_view name, std::string_view help, const Histogram& histogram) {
  begin(name, "histogram", help);
  std::int64_t below = 0;
  for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
    below += histogram.counts()[i];
    add("_bucket", {{"le", i < histogram.bounds().size() ? number(histogram.bounds()[i]) : "+Inf"}},
        std::to_string(below));
  }
  add("_sum", {}, number(histogram.sum()));
  add("_count", {}, std::to_string(histogram.count()));
}

void MetricsPage::add(std::string_view suffix, Labels labels, std::string value) {
  Sample& sample = samples_.emplace_back(Sample{std::string(suffix), "", std::move(value)});
  for (const auto& [key, text] : labels)
    sample.labels += (sample.labels.empty() ? "" : ",") + label_text(key, text);
}

void MetricsPage::write(std::string_view name, const std::string& more_labels) {
  text_.append("# HELP ").append(name).append(" ").append(help_);
  text_.append("\n# TYPE ").append(name).append(" ").append(type_).append("\n");
  for (const Sample& sample : samples_) {
    text_.append(name).append(sample.suffix);
    const bool both = !more_labels.empty() && !sample.labels.empty();
    if (const std::string labels = more_labels + (both ? "," : "") + sample.labels; !labels.empty())
      text_.append("{").append(labels).append("}");
    text_.append(" ").append(sample.value).append("\n");
  }
}

void MetricsPage::end() {
  if (name_.empty()) return;
  write(name_, "");
  for (const Alias& alias : aliases_)
    if (alias.name == name_) write(alias.other, alias_labels_);
  samples_.clear();
  name_.clear();
}

std::string MetricsPage::text() && {
  end();
  return std::move(text_);
}

}  // namespace redline::server
