// Prometheus' text format 0.0.4, and the histograms that it shows.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redline::server {

/// How often values fell into ranges that end at fixed bounds.
class Histogram {
 public:
  /// `bounds` ascend, each belonging to the range that it ends, and outlive the histogram.
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}

  void observe(double value);
  std::span<const double> bounds() const { return bounds_; }
  /// By range; the last one has no end.
  std::span<const std::int64_t> counts() const { return counts_; }
  double sum() const { return sum_; }
  std::int64_t count() const { return count_; }

 private:
  std::span<const double> bounds_;
  std::vector<std::int64_t> counts_;
  double sum_ = 0;
  std::int64_t count_ = 0;
};

/// 100 µs to 1,000 s, five a decade: a percentile read off them is within a factor of 1.6.
std::span<const double> second_bounds();
/// Powers of two, 1 to 16,384.
std::span<const double> token_bounds();

/// A page of metrics: each begins with its help and type, its samples follow.
class MetricsPage {
 public:
  /// A name, and the one that others know it by.
  struct Alias {
    std::string_view name, other;
  };
  /// A label's name and value.
  using Label = std::pair<std::string_view, std::string_view>;
  using Labels = std::initializer_list<Label>;

  /// What `aliases` name is written once more under the other name, with `alias_labels` ("a=\"b\"") before
  /// its own labels.
  MetricsPage(std::span<const Alias> aliases, std::string alias_labels)
      : aliases_(aliases), alias_labels_(std::move(alias_labels)) {}

  void begin(std::string_view name, std::string_view type, std::string_view help);
  void sample(Labels labels, double value);
  void sample(Labels labels, std::int64_t value);
  /// A metric of one sample without labels.
  template <class Value>
  void single(std::string_view name, std::string_view type, std::string_view help, Value value) {
    begin(name, type, help);
    sample({}, value);
  }
  void histogram(std::string_view name, std::string_view help, const Histogram& histogram);
  std::string text() &&;

 private:
  struct Sample {
    std::string suffix, labels, value;
  };
  void add(std::string_view suffix, Labels labels, std::string value);
  void write(std::string_view name, const std::string& more_labels);
  void end();

  std::span<const Alias> aliases_;
  std::string alias_labels_, text_;
  std::string name_, type_, help_;  // of the metric that was begun
  std::vector<Sample> samples_;
};

/// key="value", with what the format reserves escaped.
std::string label_text(std::string_view key, std::string_view value);

}  // namespace redline::server
