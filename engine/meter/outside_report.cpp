// What is known of a server from outside, for machines and for people.
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/meter/device_peaks.h"
#include "engine/meter/format.h"
#include "engine/meter/outside_meter.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

template <class Number>
struct Figure {
  Known known = Known::kBounded;
  Number lower{}, upper{};
};

using Count = Figure<std::int64_t>;
using Share = std::optional<Figure<double>>;

Count counted(Range range) {
  return {range.exact() ? Known::kCounted : Known::kBounded, range.lower, range.upper};
}

Count derived(std::int64_t lower, std::int64_t upper) {
  return {lower == upper ? Known::kDerived : Known::kBounded, lower, upper};
}

Count steps_of(const OutsideView& view) {
  const Range& steps = view.work.steps;
  return view.counts.counted_steps == OutsideCounts::Steps::kNotCounted ? derived(steps.lower, steps.upper)
                                                                        : counted(steps);
}

Share share(std::optional<double> lower, std::optional<double> upper, double wall_s, bool exact) {
  if (!lower || !upper || !(wall_s > 0)) return std::nullopt;
  return Figure<double>{exact ? Known::kDerived : Known::kBounded, *lower / wall_s, *upper / wall_s};
}

Share mfu_of(const OutsideView& view) {
  const Work &lower = view.work.lower, &upper = view.work.upper;
  return share(seconds_at(view.device.peaks, lower.flops_by_type),
               seconds_at(view.device.peaks, upper.flops_by_type), view.wall_s,
               lower.flops() == upper.flops());
}

Share mbu_of(const OutsideView& view) {
  const double bandwidth = view.device.peaks.bandwidth;
  if (!(bandwidth > 0)) return std::nullopt;
  const Work &lower = view.work.lower, &upper = view.work.upper;
  return share(static_cast<double>(lower.bytes()) / bandwidth, static_cast<double>(upper.bytes()) / bandwidth,
               view.wall_s, lower.bytes() == upper.bytes());
}

template <class Number>
Json json_of(const Figure<Number>& figure) {
  return {{"label", kKnownNames[static_cast<std::size_t>(figure.known)]},
          {"lower", figure.lower},
          {"upper", figure.upper}};
}

Json or_null(const Share& share) { return share ? json_of(*share) : Json(); }
Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

template <class Number, class Format>
std::vector<std::string> row(const std::string& name, const Figure<Number>& figure, Format&& format) {
  std::string text = format(figure.lower);
  if (figure.known == Known::kBounded) text += " to " + format(figure.upper);
  return {name, std::move(text), kKnownNames[static_cast<std::size_t>(figure.known)]};
}

std::vector<std::string> row(const std::string& name, const Share& share) {
  return share ? row(name, *share, format_percent)
               : std::vector<std::string>{name, kUnknownText, "no such peak is known"};
}

}  // namespace

Json to_json(const OutsideView& view) {
  const OutsideCounts& c = view.counts;
  const Work &lower = view.work.lower, &upper = view.work.upper;
  const auto part = [&](std::int64_t Work::*which) { return json_of(derived(lower.*which, upper.*which)); };
  return {{"server", view.server},
          {"device", view.device.name},
          {"num_devices", view.device.num_devices},
          {"peak_basis", view.device.peak_basis},
          {"wall_s", view.wall_s},
          {"mfu", or_null(mfu_of(view))},
          {"mbu", or_null(mbu_of(view))},
          {"counts",
           {{"computed_prompt_tokens", json_of(counted(c.computed_prompt_tokens))},
            {"cached_prompt_tokens", json_of(counted(c.cached_prompt_tokens))},
            {"generated_tokens", json_of(counted({c.generated_tokens, c.generated_tokens}))},
            {"requests", json_of(counted(c.requests))},
            {"steps", json_of(steps_of(view))}}},
          {"lengths_known", !c.lengths.empty()},
          {"flops",
           {{"useful", json_of(derived(lower.flops(), upper.flops()))},
            {"projections", part(&Work::projections)},
            {"attention", part(&Work::attention)},
            {"ffn", part(&Work::ffn)},
            {"head", part(&Work::head)}}},
          {"bytes",
           {{"min", json_of(derived(lower.bytes(), upper.bytes()))},
            {"weights", part(&Work::weights)},
            {"kv_read", part(&Work::kv_read)},
            {"kv_write", part(&Work::kv_write)}}},
          {"running", or_null(view.num_running)},
          {"waiting", or_null(view.num_waiting)},
          {"own_estimate", {{"flops", or_null(view.own_flops)}, {"bytes", or_null(view.own_bytes)}}}};
}

std::string to_text(const OutsideView& view) {
  const OutsideCounts& c = view.counts;
  const Work &lower = view.work.lower, &upper = view.work.upper;
  const auto si = [](const char* unit) {
    return [unit](std::int64_t value) { return format_si(static_cast<double>(value), unit); };
  };
  std::string text = view.server + " seen from outside, on " +
                     (view.device.num_devices > 1 ? std::to_string(view.device.num_devices) + " " : "") +
                     view.device.name + ", " + format_duration(view.wall_s) + "\n\n";
  std::vector<std::vector<std::string>> rows = {
      row("MFU over wall time", mfu_of(view)),
      row("MBU over wall time", mbu_of(view)),
      row("useful FLOPs", derived(lower.flops(), upper.flops()), si("FLOP")),
      row("  of attention", derived(lower.attention, upper.attention), si("FLOP")),
      row("compulsory bytes", derived(lower.bytes(), upper.bytes()), si("B")),
      row("  of weights", derived(lower.weights, upper.weights), si("B")),
      row("prompt tokens computed", counted(c.computed_prompt_tokens), format_count),
      row("prompt tokens cached", counted(c.cached_prompt_tokens), format_count),
      row("tokens generated", counted({c.generated_tokens, c.generated_tokens}), format_count),
      row("requests", counted(c.requests), format_count),
      row("steps", steps_of(view), format_count)};
  text += format_table(rows);
  text += std::string("of the ") + view.device.peak_basis + " peaks; " +
          (c.lengths.empty() ? "lengths of requests are not known" : "lengths of all requests are known") +
          "\n";
  if (view.num_running)
    text += format_count(static_cast<std::int64_t>(*view.num_running)) + " running, " +
            format_if_known(view.num_waiting,
                            [](double n) { return format_count(static_cast<std::int64_t>(n)); }) +
            " waiting\n";
  if (view.own_flops) text += "the server's own estimate: " + format_si(*view.own_flops, "FLOP") + "\n";
  return text;
}

}  // namespace redline
