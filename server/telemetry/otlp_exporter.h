// Sends spans to a collector, by OTLP/HTTP, from a thread of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/telemetry/otlp_options.h"
#include "server/telemetry/span.h"

namespace redline::server {

/// Spans are sent in batches, in the order in which they were added; what the collector may take later is
/// sent again, after pauses that grow and vary, or as long as it asks for, for kGiveUpAfter at most. Whoever
/// adds never waits: beyond `max_queued` spans that wait, new ones are dropped, and counted.
class OtlpExporter {
 public:
  static constexpr std::chrono::seconds kGiveUpAfter{60};
  /// What is left gets so long at the end, whatever the collector does.
  static constexpr std::chrono::milliseconds kFlushTime{2000};

  /// `tell` is told, on the exporter's thread, why a batch could not be delivered, and with an empty text
  /// that one was delivered again. Throws std::runtime_error naming a file of certificates that cannot be
  /// read.
  using Tell = std::function<void(const std::string& failure)>;
  OtlpExporter(OtlpOptions options, Tell tell = {});
  ~OtlpExporter();
  OtlpExporter(const OtlpExporter&) = delete;
  OtlpExporter& operator=(const OtlpExporter&) = delete;

  const OtlpOptions& options() const;
  /// All of them or none. From any thread.
  void add(std::vector<Span> spans);

  /// Spans since the start. Dropped: there was no room, or they could not be delivered. Rejected: by the
  /// collector.
  struct Totals {
    std::int64_t exported = 0, dropped = 0, rejected = 0;
  };
  Totals totals() const;

 private:
  struct Worker;
  std::shared_ptr<Worker> worker_;
  std::thread thread_;
};

}  // namespace redline::server
