#include "tools/redline/tenant_flags.h"

#include <algorithm>
#include <optional>
#include <set>

#include "server/key_file.h"
#include "tools/redline/options.h"

namespace redline {
namespace {

using server::TenantLimits;
using Limits = std::map<std::string, TenantLimits>;

/// What the flag's values, each [NAME=]NUMBER, say of all tenants; of those named they set `limit`.
template <typename Number>
std::optional<Number> read_limits(const char* flag, const std::vector<std::string>& texts, Number most,
                                  std::optional<Number> TenantLimits::*limit, Limits& limits) {
  std::optional<Number> each;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    const auto value =
        server::parse_limit<Number>(text.substr(equals == std::string::npos ? 0 : equals + 1), most);
    if (!value)
      throw UsageError(std::string(flag) + ": '" + text + "' is not [NAME=]NUMBER with a number above 0, " +
                       std::to_string(static_cast<std::int64_t>(most)) + " at most");
    if (equals == std::string::npos)
      each = value;
    else
      limits[text.substr(0, equals)].*limit = value;
  }
  return each;
}

}  // namespace

void TenantFlags::add_keys_to(Flags& flags) {
  flags.texts("--api-key", "[NAME=]KEY", "A key that clients must send; NAME: whose it is", api_keys);
  flags.texts("--admin-api-key", "[NAME=]KEY",
              "Such a key that sees at /metrics what each tenant uses; others see their own tenant's use",
              admin_api_keys);
  flags.text("--api-key-file", "FILE",
             "Such keys, one a line, each followed by its tenant's limits if any: NAME=KEY max-waiting=N "
             "kv-share=SHARE; `admin` instead: as --admin-api-key; # begins a comment",
             api_key_file);
}

void TenantFlags::add_limits_to(Flags& flags) {
  flags.texts(
      "--tenant-max-waiting", "[NAME=]N",
      "Requests of one tenant that may wait, beyond which it gets 429; NAME: of this one, whatever the key "
      "file says (default: an equal part of --max-queue where the keys are several tenants')",
      max_waiting);
  flags.texts("--tenant-kv-share", "[NAME=]SHARE",
              "Share of the cache that one tenant may hold, above 0 to 1; NAME: this one, whatever the key "
              "file says (default: 1)",
              kv_share);
}

TenantRules TenantFlags::rules(std::int64_t max_queue) const {
  TenantRules rules;
  Limits limits;
  const auto waiting = read_limits("--tenant-max-waiting", max_waiting, server::kMostWaiting,
                                   &TenantLimits::max_waiting, limits);
  const auto share = read_limits("--tenant-kv-share", kv_share, 1.0, &TenantLimits::kv_share, limits);
  for (const std::string& key : api_keys) rules.keys.add(key);
  for (const std::string& key : admin_api_keys) rules.keys.add(key, true);
  const Limits by_flag = limits;
  if (!api_key_file.empty()) server::read_key_file(api_key_file, read_file(api_key_file), rules.keys, limits);
  const std::set<std::string> tenants = rules.keys.tenants();
  for (const auto& [name, limit] : by_flag)
    if (!tenants.contains(name))
      throw UsageError("no key is of a tenant '" + name + "', which a flag limits");
  const auto num_tenants = static_cast<std::int64_t>(tenants.size());
  rules.max_waiting =
      waiting.value_or(num_tenants > 1 ? std::max<std::int64_t>(1, max_queue / num_tenants) : 0);
  rules.kv_share = share.value_or(1);
  for (const auto& [name, limit] : limits) {
    if (limit.max_waiting) rules.tenants_max_waiting[name] = *limit.max_waiting;
    if (limit.kv_share) rules.kv_shares[name] = *limit.kv_share;
  }
  return rules;
}

}  // namespace redline
