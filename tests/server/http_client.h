// A client's end of a connection, for tests: bytes out, bytes in.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace redline::server::tests {

class Client {
 public:
  /// Connects to this machine's `port`; `receive_buffer_bytes` of the kernel, 0: as it likes. Throws
  /// std::runtime_error.
  explicit Client(std::uint16_t port, int receive_buffer_bytes = 0);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(const std::string& bytes);
  /// What comes until the server ends the connection, for a minute at most.
  std::string read_to_end();
  /// What comes up to and with `end`, or to the connection's end.
  std::string read_up_to(const std::string& end);
  /// Breaks the connection off (RST).
  void reset();

 private:
  std::string received_;
  int socket_;
};

struct Answer {
  int status = 0;
  std::string head, body;
};
/// One request on a connection of its own; `request` is "GET /health". Chunks are left as they came.
Answer ask(std::uint16_t port, const std::string& request, const std::string& body = "");
/// The same, as bytes to send.
std::string request_text(const std::string& request, const std::string& body = "", bool keep_alive = false);

}  // namespace redline::server::tests
