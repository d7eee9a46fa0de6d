// The flags of `redline serve` that say who may ask, and what each tenant may take.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "server/api_keys.h"
#include "tools/redline/flags.h"

namespace redline {

/// What flags and key file come to.
struct TenantRules {
  server::ApiKeys keys;
  std::int64_t max_waiting = 0;  // requests of each tenant but for those named; 0: any number
  std::map<std::string, std::int64_t> tenants_max_waiting = {};
  double kv_share = 1;  // of each tenant but for those named
  std::map<std::string, double> kv_shares = {};
};

struct TenantFlags {
  std::vector<std::string> api_keys, admin_api_keys, max_waiting, kv_share;
  std::string api_key_file;

  void add_keys_to(Flags& flags);
  void add_limits_to(Flags& flags);
  /// Of a tenant: what a flag says of it by name, else what the key file says, else the flag without a name.
  /// Where there are several tenants, none fills the queue of `max_queue` alone. Throws UsageError for a
  /// flag, and std::runtime_error for the file, naming it and the line.
  TenantRules rules(std::int64_t max_queue) const;
};

}  // namespace redline
