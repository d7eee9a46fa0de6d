#include "server/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/multi_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/dynamic_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <iterator>
#include <utility>

namespace redline::server {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;

ApiError no_request() { return ApiError(400, "not an HTTP request that can be served", "", "invalid_http"); }

ApiError head_too_large(const HttpLimits& limits) {
  return ApiError(431,
                  "the request's head has more than " + std::to_string(limits.header_bytes) + " bytes or " +
                      std::to_string(limits.num_headers) + " fields",
                  "", "head_too_large");
}

ApiError refusal(const boost::system::error_code& error, const HttpLimits& limits) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return head_too_large(limits);
  if (error != http::error::body_limit) return no_request();
  return ApiError(413, "the body has more than " + std::to_string(limits.body_bytes) + " bytes", "",
                  "body_too_large");
}

/// A field goes on in the next line: obsolete, and read differently by others.
bool is_folded(std::string_view head) {
  return head.find("\r\n ") != head.npos || head.find("\r\n\t") != head.npos;
}

/// Less than a chunked body's shortest end, "0" and two line ends, after the last chunk's own: the parser
/// asserts that it has them.
bool may_begin_the_end(std::string_view bytes) {
  const std::size_t first = bytes.find_first_not_of("\r\n");
  return bytes.size() < 5 && (first == bytes.npos || bytes[first] == '0');
}

}  // namespace

// A body that grows as it comes: a string would be as long as the head says at once.
struct RequestParser::Impl {
  http::request_parser<http::dynamic_body> parser;
  HttpLimits limits;
  std::size_t head_bytes = 0;  // so far; the parser holds the first line and the fields to the limit each
  Headers headers;             // of the head: a trailer's fields are dropped, lest they pass for it

  void take_head();
};

// Others would read a message with two lengths or hosts, or with a coding that is not known here,
// differently.
void RequestParser::Impl::take_head() {
  const auto& head = parser.get();
  if (head_bytes > limits.header_bytes ||
      static_cast<std::size_t>(std::distance(head.begin(), head.end())) > limits.num_headers)
    throw head_too_large(limits);
  const auto hosts = head.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && head.version() >= 11)) throw no_request();
  const auto lengths = head.count(http::field::content_length);
  const auto codings = head.count(http::field::transfer_encoding);
  const bool chunked = codings == 1 && beast::iequals(head[http::field::transfer_encoding], "chunked");
  if (head[http::field::content_length].find(',') != beast::string_view::npos) throw no_request();
  if (lengths + codings > 1 || (codings > 0 && (!chunked || head.version() < 11))) throw no_request();
  for (const auto& field : head) headers.emplace_back(field.name_string(), field.value());
}

RequestParser::RequestParser(const HttpLimits& limits) : impl_(std::make_unique<Impl>()) {
  impl_->limits = limits;
  impl_->parser.header_limit(limits.header_bytes);
  impl_->parser.body_limit(limits.body_bytes);
}

RequestParser::~RequestParser() = default;

std::size_t RequestParser::read(std::string_view bytes) {
  auto& parser = impl_->parser;
  const bool head_was_done = parser.is_header_done();
  if (head_was_done && parser.chunked() && may_begin_the_end(bytes)) return 0;
  std::size_t taken = 0;
  while (!parser.is_done() && parser.is_header_done() == head_was_done && taken < bytes.size()) {
    boost::system::error_code error;
    const std::size_t put = parser.put(asio::buffer(bytes.substr(taken)), error);
    if (!head_was_done && is_folded(bytes.substr(taken, put))) throw no_request();
    taken += put;
    if (!head_was_done) impl_->head_bytes += put;
    if (error == http::error::need_more) break;
    if (error) throw refusal(error, impl_->limits);
  }
  if (taken == 0 && bytes.size() > impl_->limits.header_bytes) throw no_request();
  if (parser.is_header_done() && !head_was_done) impl_->take_head();
  return taken;
}

bool RequestParser::head_is_done() const { return impl_->parser.is_header_done(); }
bool RequestParser::is_done() const { return impl_->parser.is_done(); }
unsigned RequestParser::version() const { return impl_->parser.get().version(); }
bool RequestParser::keep_alive() const { return impl_->parser.keep_alive(); }
bool RequestParser::expects_continue() const {
  return beast::iequals(impl_->parser.get()[http::field::expect], "100-continue");
}

HttpRequest RequestParser::take() {
  auto message = impl_->parser.release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  const std::string target(message.target());
  const auto question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  request.headers = std::move(impl_->headers);
  request.body = beast::buffers_to_string(message.body().data());
  return request;
}

}  // namespace redline::server
