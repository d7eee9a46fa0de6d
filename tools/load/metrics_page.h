// What a server's metrics say of a run: the difference of two pages.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace redline::load {

/// Samples of a page in Prometheus' text format. Lines that are none are passed over.
class MetricsPage {
 public:
  using Labels = std::map<std::string, std::string>;
  struct Sample {
    std::string name;
    Labels labels;
    double value = 0;
  };

  explicit MetricsPage(std::string_view text);
  /// The sum of the samples of `name` that have these labels, and may have others; nothing where none has.
  std::optional<double> sum(const std::string& name, const Labels& labels = {}) const;

  /// All samples of `name`, in the page's order.
  std::vector<Sample> samples(const std::string& name) const;

 private:
  std::vector<Sample> samples_;
};

/// How a Redline server's hardware was used between two pages that lie `wall_s` apart: docs/json.md, bench
/// serve, utilization. `during` are pages from in between. Of all that the server did, whoever asked.
nlohmann::ordered_json utilization_between(const std::string& before, const std::string& after, double wall_s,
                                           const std::vector<std::string>& during);

}  // namespace redline::load
