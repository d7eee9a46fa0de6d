// The limits of connections, with short times.
#include "server/http_server.h"

#include <gtest/gtest.h>

#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/server/http_client.h"

namespace redline::server {
namespace {

using tests::Client;
using tests::request_text;

asio::awaitable<void> echo(Exchange& exchange) {
  HttpResponse response;
  response.body = exchange.request().body;
  co_await exchange.respond(std::move(response));
}

class ShortLimits : public testing::Test {
 protected:
  static HttpLimits limits() {
    HttpLimits limits;
    limits.header_timeout = limits.body_timeout = limits.idle_timeout = std::chrono::seconds(1);
    limits.num_connections = 3;
    return limits;
  }
  ~ShortLimits() override {
    server_.stop(std::chrono::milliseconds(0));
    running_.join();
  }

  HttpServer server_{{.host = "127.0.0.1"}, limits(), {}, echo};
  std::thread running_{[this] { server_.run(); }};
};

TEST_F(ShortLimits, RequestsFollowOneAnotherSentTogetherOrInPieces) {
  Client client(server_.port());
  client.send(request_text("POST /", "one", true) + request_text("POST /", "two", true));
  EXPECT_TRUE(client.read_up_to("one").ends_with("\r\n\r\none"));
  EXPECT_TRUE(client.read_up_to("two").ends_with("\r\n\r\ntwo"));
  for (const char c : request_text("POST /", "three", true)) client.send(std::string(1, c));
  EXPECT_TRUE(client.read_up_to("three").ends_with("\r\n\r\nthree"));
}

TEST_F(ShortLimits, AnIdleConnectionIsClosedAndOneThatIsUsedIsNot) {
  Client idle(server_.port()), used(server_.port());
  idle.send(request_text("POST /", "x", true));
  EXPECT_NE(idle.read_up_to("\r\n\r\nx"), "");
  for (int i = 0; i < 4; ++i) {
    used.send(request_text("POST /", "again", true));
    ASSERT_TRUE(used.read_up_to("again").ends_with("again"));
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
  }
  EXPECT_EQ(idle.read_to_end(), "");
}

TEST_F(ShortLimits, ABodyThatDoesNotComeGets408) {
  Client client(server_.port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(client.read_to_end().substr(9, 3), "408");
}

TEST_F(ShortLimits, WhoWaitsForLeaveToSendABodyGetsIt) {
  Client client(server_.port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.read_up_to("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("abc");
  EXPECT_TRUE(client.read_up_to("abc").starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ShortLimits, Http10ClosesUnlessAskedNotTo) {
  Client plain(server_.port()), kept(server_.port());
  plain.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(plain.read_to_end().starts_with("HTTP/1.0 200 OK\r\n"));
  kept.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(kept.read_up_to("\r\n\r\n").find("Connection: keep-alive\r\n"), std::string::npos);
}

TEST_F(ShortLimits, ConnectionsBeyondTheMostThereMayBeWaitTheirTurn) {
  auto first = std::make_unique<Client>(server_.port());
  Client second(server_.port()), third(server_.port());
  for (Client* each : {first.get(), &second, &third}) {
    each->send(request_text("POST /", "in", true));
    ASSERT_TRUE(each->read_up_to("in").ends_with("in"));
  }
  Client fourth(server_.port());
  fourth.send(request_text("POST /", "in", true));
  first.reset();
  EXPECT_TRUE(fourth.read_up_to("\r\n\r\nin").ends_with("in"));
}

}  // namespace
}  // namespace redline::server
