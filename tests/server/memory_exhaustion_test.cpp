// The server's thread, when memory runs out at any one of its allocations.
#include <gtest/gtest.h>

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdlib>
#include <future>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "server/http_server.h"
#include "tests/server/http_client.h"

namespace {

thread_local int allocations_to_failure = 0;  // 0: none fails

void* allocate(std::size_t size) {
  if (allocations_to_failure > 0 && --allocations_to_failure == 0) throw std::bad_alloc();
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace redline::server {
namespace {

asio::awaitable<void> echo(Exchange& exchange) {
  HttpResponse response;
  response.body = exchange.request().body + std::string(1000, '.');
  co_await exchange.respond(std::move(response));
}

/// Calls `what` on the server's thread and waits for it.
template <class What>
auto on_thread_of(HttpServer& server, What what) {
  std::promise<decltype(what())> result;
  server.post([&] { result.set_value(what()); });
  return result.get_future().get();
}

TEST(MemoryExhaustion, TheNthAllocationThatFailsEndsItsRequestAtMost) {
  HttpServer server({.host = "127.0.0.1"}, {}, {}, echo);
  std::thread running([&] { server.run(); });
  const std::string request = tests::request_text("POST /", std::string(5000, 'x'));
  int num_failures = 0;
  for (bool failed = true; failed; ++num_failures) {
    ASSERT_LT(num_failures, 1000) << "each request allocates more than the one before";
    on_thread_of(server, [n = num_failures + 1] { return allocations_to_failure = n; });
    std::string answer;
    try {
      tests::Client client(server.port());
      client.send(request);
      answer = client.read_to_end();
    } catch (const std::runtime_error&) {
    }
    failed = on_thread_of(server, [] { return std::exchange(allocations_to_failure, 0) == 0; });
    EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 200") ||
                (failed && answer.starts_with("HTTP/1.1 503")))
        << num_failures << ": " << answer.substr(0, 200);
    EXPECT_EQ(tests::ask(server.port(), "POST /", "again").status, 200) << num_failures;
  }
  EXPECT_GT(num_failures, 5);
  server.stop(std::chrono::seconds(5));
  running.join();
}

}  // namespace
}  // namespace redline::server
