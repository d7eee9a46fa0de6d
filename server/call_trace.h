// What OpenTelemetry is told of a call: its spans, without a word of its prompt or answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/device_peaks.h"
#include "server/call.h"
#include "server/generation.h"
#include "server/reply.h"
#include "server/telemetry/otlp_exporter.h"

namespace redline::server {

struct Telemetry {
  std::shared_ptr<OtlpExporter> exporter = {};  // null: nobody is told
  std::string address = {};                     // of this server, or its Unix socket's path
  std::uint16_t port = 0;                       // 0: there is none
};

/// One call, from its arrival to its end, which is told of when this is destroyed: a server's span with the
/// attributes of the GenAI semantic conventions (github.com/open-telemetry/semantic-conventions-genai) and
/// our own, `redline.*`, and for each prompt, of the first kMaxPrompts, spans of its queueing, prefill and
/// decode.
class CallTrace {
 public:
  static constexpr std::size_t kMaxPrompts = 32;

  /// The call has arrived. The first three outlive it.
  CallTrace(const Telemetry& telemetry, const DevicePeaks& peaks, const HttpRequest& request,
            const std::string& tenant);
  ~CallTrace();
  CallTrace(const CallTrace&) = delete;
  CallTrace& operator=(const CallTrace&) = delete;

  /// It runs. `generation` outlives the trace.
  void begin(const Call& call, const Generation& generation);
  /// All answers have ended.
  void finish(const Reply& reply);
  /// The client is told this instead of, or after a part of, its answer.
  void fail(const ApiError& error);
  /// The client went.
  void lose_client();

 private:
  void tell();
  std::int64_t unix_ns(std::int64_t steady_ns) const { return steady_ns + unix_offset_ns_; }
  void add_work(Attributes& attributes, const Counts& counts, double device_ns) const;
  void add_usage(std::int64_t end_ns);
  void add_error();
  Span child(const char* name, std::int64_t start_ns, std::int64_t end_ns) const;
  void add_children(std::vector<Span>& spans, std::size_t prompt, std::int64_t end_ns) const;

  const Telemetry& telemetry_;
  const DevicePeaks& peaks_;
  const std::int64_t arrival_ns_, unix_offset_ns_;  // steady clock; Unix time less it
  bool is_told_ = false;
  bool streams_ = false;
  std::size_t num_prompts_ = 0;
  const Generation* generation_ = nullptr;
  Span span_;
  std::string error_;  // its code; empty: none
  int status_ = 0;     // 0: none was sent
  bool client_is_lost_ = false;
};

}  // namespace redline::server
