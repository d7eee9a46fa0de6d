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

ApiError refusal(int status) { return ApiError(status, "not an HTTP request that can be served"); }

int status_of(const boost::system::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) return 431;
  return error == http::error::body_limit ? 413 : 400;
}

/// A field goes on in the next line: obsolete, and read differently by others.
bool is_folded(std::string_view head) {
  return head.find("\r\n ") != head.npos || head.find("\r\n\t") != head.npos;
}

}  // namespace

// A body that grows as it comes: a string would be as long as the head says at once.
struct RequestParser::Impl {
  http::request_parser<http::dynamic_body> parser;
  std::size_t max_headers = 0;
};

RequestParser::RequestParser(const HttpLimits& limits) : impl_(std::make_unique<Impl>()) {
  impl_->parser.header_limit(limits.header_bytes);
  impl_->parser.body_limit(limits.body_bytes);
  impl_->max_headers = limits.num_headers;
}

RequestParser::~RequestParser() = default;

std::size_t RequestParser::read(std::string_view bytes) {
  auto& parser = impl_->parser;
  const bool head_was_done = parser.is_header_done();
  std::size_t taken = 0;
  while (!parser.is_done() && parser.is_header_done() == head_was_done && taken < bytes.size()) {
    boost::system::error_code error;
    const std::size_t put = parser.put(asio::buffer(bytes.substr(taken)), error);
    if (!head_was_done && is_folded(bytes.substr(taken, put))) throw refusal(400);
    taken += put;
    if (error == http::error::need_more) break;
    if (error) throw refusal(status_of(error));
  }
  if (parser.is_header_done() && !head_was_done) {
    const auto& head = parser.get();
    if (static_cast<std::size_t>(std::distance(head.begin(), head.end())) > impl_->max_headers)
      throw refusal(431);
  }
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
  for (const auto& field : message) request.headers.emplace_back(field.name_string(), field.value());
  request.body = beast::buffers_to_string(message.body().data());
  return request;
}

}  // namespace redline::server
