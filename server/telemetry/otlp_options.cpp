#include "server/telemetry/otlp_options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace redline::server {
namespace {

constexpr const char *kFlag = "--otlp-endpoint", *kBase = "OTEL_EXPORTER_OTLP_ENDPOINT",
                     *kTraces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw std::invalid_argument(name + ": " + why);
}

/// An empty variable is one that is not set.
std::string value_of(const Environment& environment, const char* name) {
  const char* value = environment(name);
  return value ? value : "";
}

/// The name and value of the first variable that is set.
std::pair<std::string, std::string> first_of(const Environment& environment,
                                             std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (std::string value = value_of(environment, name); !value.empty()) return {name, std::move(value)};
  return {};
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string decoded(std::string_view text, const std::string& variable) {
  auto decoded = percent_decoded(text);
  if (!decoded) refuse(variable, "a % is not followed by two hexadecimal digits");
  return std::move(*decoded);
}

/// "key=value,key=value", the values percent-encoded: W3C baggage without properties.
std::vector<std::pair<std::string, std::string>> pairs_of(std::string_view text,
                                                          const std::string& variable) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view member = trimmed(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (member.empty()) continue;
    const std::size_t equals = member.find('=');
    if (equals == member.npos || equals == 0)
      refuse(variable, "member " + std::to_string(pairs.size() + 1) + " is no key=value");
    pairs.emplace_back(decoded(trimmed(member.substr(0, equals)), variable),
                       decoded(trimmed(member.substr(equals + 1)), variable));
  }
  return pairs;
}

Headers headers_of(const Environment& environment) {
  const auto [variable, text] =
      first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"});
  Headers headers;
  for (auto& [key, value] : pairs_of(text, variable)) {
    const auto is_of_token = [](unsigned char c) {
      return std::isalnum(c) ||
             std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
    };
    const auto is_control = [](unsigned char c) { return (c < 32 && c != '\t') || c == 127; };
    if (!std::ranges::all_of(key, is_of_token)) refuse(variable, "a key is no name of a header");
    if (std::ranges::any_of(value, is_control))
      refuse(variable, "the value of " + key + " holds a control character");
    headers.emplace_back(std::move(key), std::move(value));
  }
  return headers;
}

Attributes resource_of(const Environment& environment, const std::string& version) {
  constexpr const char *kAttributes = "OTEL_RESOURCE_ATTRIBUTES", *kServiceName = "service.name";
  Attributes resource{{"telemetry.sdk.name", std::string("redline")},
                      {"telemetry.sdk.language", std::string("cpp")},
                      {"telemetry.sdk.version", version}};
  std::string service = value_of(environment, "OTEL_SERVICE_NAME");
  bool has_version = false;
  for (auto& [key, value] : pairs_of(value_of(environment, kAttributes), kAttributes)) {
    if (key.starts_with("telemetry.sdk.")) continue;
    if (key != kServiceName) {
      has_version |= key == "service.version";
      resource.emplace_back(std::move(key), std::move(value));
    } else if (service.empty()) {
      service = std::move(value);
    }
  }
  if (!has_version) resource.emplace_back("service.version", version);
  resource.emplace_back(kServiceName, service.empty() ? "redline" : service);
  return resource;
}

template <class Number>
Number number_of(const std::pair<std::string, std::string>& variable, Number otherwise) {
  const auto& [name, text] = variable;
  if (text.empty()) return otherwise;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  constexpr std::int64_t kMost = 1'000'000'000;
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > kMost)
    refuse(name, "'" + text + "' is no number from 1 to " + std::to_string(kMost));
  return Number(value);
}

Sampler sampler_of(const Environment& environment) {
  constexpr const char *kName = "OTEL_TRACES_SAMPLER", *kArgument = "OTEL_TRACES_SAMPLER_ARG";
  constexpr std::string_view kParentBased = "parentbased_";
  std::string name = value_of(environment, kName);
  Sampler sampler;
  if (name.empty()) return sampler;
  sampler.follows_parent = name.starts_with(kParentBased);
  const std::string rule = sampler.follows_parent ? name.substr(kParentBased.size()) : name;
  if (rule == "always_off") {
    sampler.share = 0;
  } else if (rule == "traceidratio") {
    const std::string text = value_of(environment, kArgument);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sampler.share);
    if (!text.empty() && (error != std::errc() || end != text.data() + text.size() ||
                          !(sampler.share >= 0 && sampler.share <= 1)))
      refuse(kArgument, "'" + text + "' is no share from 0 to 1");
  } else if (rule != "always_on") {
    refuse(
        kName,
        "'" + name +
            "' is not known; there are always_on, always_off and traceidratio, each also after parentbased_");
  }
  return sampler;
}

void set_url(OtlpOptions& options, const std::string& source, const std::string& url) {
  options.url = url.substr(0, url.find('?'));
  options.tls = url.starts_with("https://");
  if (!options.tls && !url.starts_with("http://"))
    refuse(source, "'" + url + "' is no URL that starts with http:// or https://");
  std::string rest = url.substr(url.find("//") + 2);
  const std::size_t path = std::min(rest.find_first_of("/?#"), rest.size());
  options.target = rest.substr(path);
  rest.resize(path);
  if (rest.find('@') != rest.npos)
    refuse(source, "holds a user's name: send a key as a header, by OTEL_EXPORTER_OTLP_HEADERS");
  const std::size_t colon = rest.rfind(':');
  const bool has_port = colon != rest.npos && rest.find(']', colon) == rest.npos;
  options.host = rest.substr(0, has_port ? colon : rest.size());
  options.port = has_port ? rest.substr(colon + 1) : options.tls ? "443" : "80";
  if (options.host.starts_with('[') && options.host.ends_with(']'))
    options.host = options.host.substr(1, options.host.size() - 2);
  const bool is_number = std::ranges::all_of(options.port, [](unsigned char c) { return std::isdigit(c); });
  if (options.host.empty() || options.port.empty() || !is_number)
    refuse(source, "'" + url + "' names no host and port");
  const auto is_odd = [](unsigned char c) { return c <= 32 || c == 127 || c == '#'; };
  if (std::ranges::any_of(options.host + options.target, is_odd))
    refuse(source, "a space, a control character or # is in the URL");
  if (source == kTraces) {
    if (!options.target.starts_with('/')) options.target.insert(0, "/");
    return;
  }
  if (options.target.find('?') != options.target.npos)
    refuse(source, "holds a query, and /v1/traces would follow it");
  while (options.target.ends_with('/')) options.target.pop_back();
  options.target += "/v1/traces";
}

bool is_true(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text == "true";
}

}  // namespace

std::optional<OtlpOptions> otlp_options(const std::string& endpoint, const std::string& version,
                                        const Environment& environment) {
  if (is_true(value_of(environment, "OTEL_SDK_DISABLED"))) return std::nullopt;
  auto [source, url] = first_of(environment, {kTraces, kBase});
  if (!endpoint.empty()) {
    source = kFlag;
    url = endpoint;
  } else if (url.empty() || value_of(environment, "OTEL_TRACES_EXPORTER") == "none") {
    return std::nullopt;
  }
  if (const auto [name, protocol] =
          first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"});
      protocol == "grpc")
    refuse(name, "is grpc; spans are sent as http/json, which collectors take at another port (4318)");
  OtlpOptions options;
  set_url(options, source, url);
  options.certificate_file =
      first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"})
          .second;
  options.headers = headers_of(environment);
  options.version = version;
  options.resource = resource_of(environment, version);
  options.sampler = sampler_of(environment);
  options.timeout =
      number_of(first_of(environment, {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"}),
                options.timeout);
  options.interval = number_of(first_of(environment, {"OTEL_BSP_SCHEDULE_DELAY"}), options.interval);
  options.max_queued = number_of(first_of(environment, {"OTEL_BSP_MAX_QUEUE_SIZE"}), options.max_queued);
  options.max_batch =
      std::min(options.max_queued,
               number_of(first_of(environment, {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE"}), options.max_batch));
  return options;
}

}  // namespace redline::server
