#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/meter/format.h"
#include "engine/meter/waterfall.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kBarCells = 72;
constexpr char kMarks[kNumTerms + 1] = ".gcwmlk#";  // of a bar's cells, by term
constexpr const char* kNotExposed = "not exposed";

bool is_hidden(const Waterfall& terms, std::size_t term) {
  return term == static_cast<std::size_t>(Term::kClockLoss) && !terms.clock_is_exposed;
}

Json waterfall_json(const Waterfall& waterfall) {
  Json terms = Json::object();
  for (std::size_t i = 0; i < kNumTerms; ++i)
    terms[kTermNames[i]] = is_hidden(waterfall, i) ? Json() : Json(waterfall.seconds[i]);
  Json waste = Json::object();
  for (std::size_t i = 0; i < kNumWasteCauses; ++i) waste[kWasteCauseNames[i]] = waterfall.waste_seconds[i];
  return {{"wall_s", waterfall.wall_s()},
          {"mfu", waterfall.mfu()},
          {"terms_s", std::move(terms)},
          {"waste_s", std::move(waste)}};
}

// A cell for every 72nd of the time.
std::string bar(const Waterfall& terms) {
  const std::array<double, kNumTerms> shares = drawn_shares(terms);
  double drawn = 0;
  std::string cells;
  for (std::size_t i = 0; i < kNumTerms; ++i) {
    drawn += shares[i];
    cells.resize(static_cast<std::size_t>(std::lround(kBarCells * drawn)), kMarks[i]);
  }
  return "[" + cells + "]\n";
}

std::string share(double seconds, double of) { return of > 0 ? format_percent(seconds / of) : kUnknownText; }

// A row for each cause that there was.
void add_causes(std::vector<std::vector<std::string>>& rows, const std::vector<const Waterfall*>& columns) {
  for (std::size_t i = 0; i < kNumWasteCauses; ++i) {
    const double seconds = columns.front()->waste_seconds[i];
    if (seconds == 0) continue;
    std::vector<std::string> row{std::string("    ") + kWasteCauseNames[i], format_duration(seconds)};
    for (const Waterfall* terms : columns) row.push_back(share(terms->waste_seconds[i], terms->wall_s()));
    rows.push_back(std::move(row));
  }
}

std::string terms_table(const WindowWaterfall& window) {
  std::vector<const Waterfall*> columns{&window.whole};
  std::vector<std::vector<std::string>> rows{{"", "time", "share"}};
  for (const Phase phase : kAllPhases)
    if (const Waterfall& terms = window.phases[static_cast<std::size_t>(phase)]; terms.wall_s() > 0) {
      columns.push_back(&terms);
      rows[0].push_back(kPhaseNames[static_cast<int>(phase)]);
    }
  for (std::size_t i = 0; i < kNumTerms; ++i) {
    std::vector<std::string> row{std::string(1, kMarks[i]) + " " + term_words(static_cast<Term>(i))};
    if (is_hidden(window.whole, i)) {
      row.emplace_back(kNotExposed);
    } else {
      row.push_back(window.whole.seconds[i] == 0 ? "0 s" : format_duration(window.whole.seconds[i]));
      for (const Waterfall* terms : columns) row.push_back(share(terms->seconds[i], terms->wall_s()));
    }
    rows.push_back(std::move(row));
    if (static_cast<Term>(i) == Term::kWaste) add_causes(rows, columns);
  }
  rows.push_back({"  wall", format_duration(window.whole.wall_s())});
  for (std::size_t i = 1; i < columns.size(); ++i) {
    if (i == 1) rows.back().push_back("100.0 %");
    rows.back().push_back(format_duration(columns[i]->wall_s()));
  }
  return format_table(rows);
}

std::string kinds_table(const WindowWaterfall& window, Phase phase) {
  const auto p = static_cast<std::size_t>(phase);
  if (window.kinds[p].empty()) return "";
  std::vector<std::vector<std::string>> rows{{std::string(kPhaseNames[p]) + ", busy", "time", "of the phase",
                                              "waste", "memory bound", "inefficiency", "ideal"}};
  for (const KindWaterfall& kind : window.kinds[p]) {
    const double busy_s = kind.terms.wall_s();
    const auto of_kind = [&](Term term) { return share(kind.terms[term], busy_s); };
    rows.push_back({kOpKindNames[static_cast<std::size_t>(kind.kind)], format_duration(busy_s),
                    share(busy_s, window.phases[p].wall_s()), of_kind(Term::kWaste),
                    of_kind(Term::kMemoryBoundPenalty), of_kind(Term::kKernelInefficiency),
                    of_kind(Term::kIdealCompute)});
  }
  return format_table(rows);
}

}  // namespace

std::string term_words(Term term) {
  std::string words = kTermNames[static_cast<std::size_t>(term)];
  std::ranges::replace(words, '_', ' ');
  return words;
}

std::array<double, kNumTerms> drawn_shares(const Waterfall& terms) {
  std::array<double, kNumTerms> shares = terms.seconds;
  shares[static_cast<std::size_t>(Term::kMemoryBoundPenalty)] +=
      std::min(0.0, terms[Term::kKernelInefficiency]);
  double sum = 0;
  for (double& share : shares) sum += share = std::max(0.0, share);
  for (double& share : shares) share = sum > 0 ? share / sum : 0;
  return shares;
}

Json to_json(const WindowWaterfall& window) {
  Json json{{"peak_basis", kPeakBasisNames[static_cast<int>(window.basis)]}, {"not_exposed", Json::array()}};
  if (!window.whole.clock_is_exposed)
    json["not_exposed"].push_back(kTermNames[static_cast<std::size_t>(Term::kClockLoss)]);
  json.update(waterfall_json(window.whole));
  json["largest_loss"] = kTermNames[static_cast<std::size_t>(window.whole.largest_loss())];
  for (std::size_t p = 0; p < kNumPhases; ++p) {
    Json phase = waterfall_json(window.phases[p]);
    phase["kinds"] = Json::array();
    for (const KindWaterfall& kind : window.kinds[p]) {
      Json entry{{"kind", kOpKindNames[static_cast<std::size_t>(kind.kind)]}};
      entry.update(waterfall_json(kind.terms));
      phase["kinds"].push_back(std::move(entry));
    }
    json["phases"][kPhaseNames[p]] = std::move(phase);
  }
  return json;
}

Json nanoseconds_json(const Waterfall& terms, PeakBasis basis) {
  constexpr const char* kNames[kNumTerms] = {"idle",         "gap",        "exposed_communication", "waste",
                                             "memory_bound", "clock_loss", "kernel_inefficiency",   "ideal"};
  constexpr auto kRest = static_cast<std::size_t>(Term::kKernelInefficiency);
  const auto ns = [](double seconds) { return std::llround(seconds * 1e9); };
  Json json{{"wall", ns(terms.wall_s())}};
  std::int64_t rest = ns(terms.wall_s());
  for (std::size_t i = 0; i < kNumTerms; ++i) {
    json[kNames[i]] = ns(terms.seconds[i]);
    if (i != kRest) rest -= ns(terms.seconds[i]);
  }
  json[kNames[kRest]] = rest;
  json["peak_basis"] = kPeakBasisNames[static_cast<int>(basis)];
  json["not_exposed"] = Json::array();
  if (!terms.clock_is_exposed) json["not_exposed"].push_back("clock_loss");
  return json;
}

Waterfall busy_terms(Waterfall phase) {
  phase[Term::kIdle] = phase[Term::kGap] = 0;
  return phase;
}

std::string report(const WindowWaterfall& window) {
  std::string text = bar(window.whole) + terms_table(window);
  for (const Phase phase : kAllPhases) text += kinds_table(window, phase);
  return text;
}

}  // namespace redline
