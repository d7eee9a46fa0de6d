#include "server/request_parser.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>

namespace redline::server {
namespace {

constexpr HttpLimits kLimits;

/// What `text` comes to where it arrives in pieces as `cut` says; what is left of it stays there.
HttpRequest parse(std::string& text, const std::function<std::size_t()>& cut,
                  const HttpLimits& limits = kLimits) {
  RequestParser parser(limits);
  std::string arrived;
  while (!parser.is_done()) {
    const std::size_t size = std::min(cut(), text.size());
    if (size == 0) throw std::runtime_error("it ended early");
    arrived += text.substr(0, size);
    text.erase(0, size);
    for (std::size_t taken = 1; taken > 0 && !arrived.empty() && !parser.is_done();)
      arrived.erase(0, taken = parser.read(arrived));
  }
  text = arrived + text;
  return parser.take();
}

int status_of(std::string text) {
  try {
    parse(text, [] { return std::size_t{1000}; });
  } catch (const ApiError& error) {
    return error.status();
  }
  return 200;
}

constexpr const char* kHead = "POST /v1/completions?a=1 HTTP/1.1\r\nHost: x\r\nX-Api-Key: k\r\n";

TEST(RequestParser, PiecesOfAnySizeComeToTheSameAndTheNextRequestIsLeft) {
  const std::uint32_t seed = std::random_device()();
  std::mt19937 random(seed);
  const std::string next = "GET /health HTTP/1.1\r\n\r\n";
  for (const std::string& body :
       {std::string("Content-Length: 11\r\n\r\nhello world"),
        std::string("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")})
    for (int i = 0; i < 200; ++i) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", try " + std::to_string(i));
      std::string text = kHead + body + next;
      const std::size_t most = 1 + random() % 40;
      const HttpRequest request = parse(text, [&] { return 1 + random() % most; });
      EXPECT_EQ(request.method, "POST");
      EXPECT_EQ(request.path, "/v1/completions");
      EXPECT_EQ(request.query, "a=1");
      EXPECT_EQ(request.header("x-api-key"), "k");
      EXPECT_EQ(request.body, "hello world");
      EXPECT_EQ(text, next);
    }
}

TEST(RequestParser, WhatIsAmbiguousOrBeyondALimitHasItsStatus) {
  const std::string head = kHead;
  EXPECT_EQ(status_of(head + "\r\n"), 200);
  EXPECT_EQ(status_of(head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), 400);
  EXPECT_EQ(status_of(head + "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nhello"), 400);
  EXPECT_EQ(status_of(head + "Transfer-Encoding: gzip\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Content-Length: 99999999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Content-Length: 5, 5\r\n\r\nhello"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400) << "no host";
  EXPECT_EQ(status_of(head + "Host: y\r\n\r\n"), 400) << "two hosts";
  EXPECT_EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 200);
  EXPECT_EQ(status_of("GET / HTTP/1.1\nHost: x\n\n"), 400) << "bare LF";
  EXPECT_EQ(status_of(head + "A: b\r\n c\r\n\r\n"), 400) << "folded";
  EXPECT_EQ(status_of(head + "A: b\r\n\tc\r\n\r\n"), 400) << "folded";
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n A: b\r\n\r\n"), 400) << "folded";
  EXPECT_EQ(status_of(head + "Content-Length : 3\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET  / HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
  EXPECT_EQ(status_of("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
  EXPECT_EQ(status_of(head + "Content-Length: 33554433\r\n\r\n"), 413);
  EXPECT_EQ(status_of(head + "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"), 413);
  EXPECT_EQ(status_of(head + "X: " + std::string(70000, 'a') + "\r\n\r\n"), 431);
  const std::string chunked = head + "Transfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(status_of(chunked + "zz\r\n"), 400) << "at once, not when more comes";
  EXPECT_EQ(status_of(chunked + "1;" + std::string(1 << 20, 'x')), 400) << "a chunk's line without an end";
  EXPECT_EQ(status_of(chunked + "0\r\nX: " + std::string(1 << 20, 'x')), 400) << "a trailer without an end";
  EXPECT_EQ(status_of("GET /" + std::string(40000, 'a') + " HTTP/1.1\r\nX: " + std::string(40000, 'a') +
                      "\r\n\r\n"),
            431);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i <= 100; ++i) many += "X" + std::to_string(i) + ": 1\r\n";
  EXPECT_EQ(status_of(many + "\r\n"), 431);
}

TEST(RequestParser, FieldsOfATrailerAreNoHeaders) {
  for (const std::size_t cut : {std::size_t{1}, std::size_t{1000}}) {
    std::string text =
        std::string(kHead) + "Transfer-Encoding: Chunked\r\n\r\n0\r\nX-Api-Key: other\r\nA: b\r\n\r\n";
    const HttpRequest request = parse(text, [&] { return cut; });
    EXPECT_EQ(request.headers.size(), 3u);
    EXPECT_EQ(request.header("x-api-key"), "k");
    EXPECT_EQ(request.header("a"), "");
  }
}

}  // namespace
}  // namespace redline::server
