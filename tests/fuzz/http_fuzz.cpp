// What comes on a connection: after a first byte that says in pieces of which size, requests one after the
// other. However they are cut, the same requests come out, within the limits, or the same refusal.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "server/request_parser.h"

namespace {

using namespace redline::server;

// Small, so that short inputs meet them.
constexpr HttpLimits kLimits{.body_bytes = 256, .header_bytes = 512, .num_headers = 8};

void check(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", claim);
  std::abort();
}

/// What a connection comes to.
struct Outcome {
  std::vector<HttpRequest> requests;
  int refused = 0;  // with this status, after them; 0: nothing was, so far
};

void check_refusal(const ApiError& error) {
  const int status = error.status();
  check(status == 400 || status == 413 || status == 431, "the status of a refusal");
  const auto body = nlohmann::json::parse(error.body())["error"];
  check(body["code"].is_string() && !body["code"].get<std::string>().empty(), "a refusal has a code");
  check(error.body().size() < 1000, "a short refusal");
}

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < 0x7F && std::string_view("\"(),/:;<=>?@[\\]{}").find(c) == std::string_view::npos;
  });
}

void check_request(const HttpRequest& request) {
  check(is_token(request.method), "a method is a token");
  check(request.path.find_first_of("? \r\n") == std::string::npos, "a path");
  check(request.body.size() <= kLimits.body_bytes, "the body's limit");
  check(request.headers.size() <= kLimits.num_headers, "the limit of fields");
  std::size_t head_bytes = request.method.size() + request.path.size() + request.query.size();
  int num_lengths = 0, num_codings = 0;
  for (const auto& [name, value] : request.headers) {
    check(is_token(name), "a field's name is a token");
    check(value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos,
          "a field's value is a line");
    head_bytes += name.size() + value.size();
    const HttpRequest one{.method = {}, .path = {}, .query = {}, .headers = {{name, "x"}}, .body = {}};
    num_lengths += !one.header("Content-Length").empty();
    num_codings += !one.header("Transfer-Encoding").empty();
  }
  check(head_bytes <= kLimits.header_bytes, "the head's limit");
  check(num_lengths <= 1 && !(num_lengths > 0 && num_codings > 0), "one length of the body");
  if (num_lengths > 0)
    check(std::stoull(std::string(request.header("Content-Length"))) == request.body.size(),
          "the body's length");
}

/// As a connection reads, `most` bytes at a time.
Outcome read_all(std::string_view bytes, std::size_t most) {
  Outcome outcome;
  std::string arrived;
  try {
    for (bool keep_alive = true; keep_alive && (!bytes.empty() || !arrived.empty());) {
      RequestParser parser(kLimits);
      while (true) {
        const std::size_t taken = parser.read(arrived);
        check(taken <= arrived.size(), "no more is taken than there is");
        arrived.erase(0, taken);
        if (parser.is_done()) break;
        if (taken > 0 && !arrived.empty() && parser.head_is_done()) continue;
        if (bytes.empty()) return outcome;
        const std::size_t size = std::min(most, bytes.size());
        arrived += bytes.substr(0, size);
        bytes.remove_prefix(size);
      }
      check(parser.version() == 10 || parser.version() == 11, "the version");
      keep_alive = parser.keep_alive();
      outcome.requests.push_back(parser.take());
      check_request(outcome.requests.back());
    }
  } catch (const ApiError& error) {
    check_refusal(error);
    outcome.refused = error.status();
  }
  return outcome;
}

bool same(const HttpRequest& a, const HttpRequest& b) {
  return a.method == b.method && a.path == b.path && a.query == b.query && a.headers == b.headers &&
         a.body == b.body;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = read_all(bytes, 4096), cut = read_all(bytes, data[0] % 64 + 1u);
  if (bytes.size() > kLimits.header_bytes) return 0;  // where a line is too long may depend on the pieces
  check(std::ranges::equal(whole.requests, cut.requests, same), "the same requests in other pieces");
  return 0;
}
