// Serves one model, and listens before it is loaded.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "server/api.h"
#include "server/http_server.h"
#include "server/service.h"

namespace redline::server {

class ModelServer {
 public:
  using Progress = std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)>;
  /// Makes what answers, and says how far it is. All that the service refers to lives as long as the pointer.
  using Loader = std::function<std::shared_ptr<Service>(const Progress& progress)>;

  /// Listens at once. Throws as HttpServer does.
  ModelServer(const HttpAddress& address, HttpLimits limits, Headers headers, ApiOptions options,
              RequestLog log = {});
  /// Waits for the loader.
  ~ModelServer();
  ModelServer(const ModelServer&) = delete;
  ModelServer& operator=(const ModelServer&) = delete;

  /// HttpServer::port.
  std::uint16_t port() const { return http_.port(); }
  /// Serves until stop(), on the calling thread. `load` is called once, on a thread of its own, then, on this
  /// one, `loaded`. What `load` throws ends it and is thrown. False where stop() came first: `load` may go on
  /// for as long as it takes.
  bool run(Loader load, std::function<void()> loaded);
  /// From any thread: takes no more calls; those under way have `drain_timeout` to end in, then they are
  /// told. At once while the model is being loaded, or for the second time.
  void stop(std::chrono::milliseconds drain_timeout);
  /// From any thread: calls `what` on the server's.
  void post(std::function<void()> what) { http_.post(std::move(what)); }
  /// From any thread: Service::give_up.
  void give_up();

 private:
  void load_model(const Loader& load, std::function<void()> loaded);
  void stop_at_once();

  // Connections end before what they call, and that before what it posts to: see the destructor.
  std::shared_ptr<Service> service_;
  Api api_;
  HttpServer http_;
  std::exception_ptr failure_;  // of the loader
  std::atomic<bool> load_has_ended_ = false;
  std::thread loading_;
};

}  // namespace redline::server
