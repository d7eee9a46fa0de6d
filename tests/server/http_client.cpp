#include "tests/server/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace redline::server::tests {

Client::Client(std::uint16_t port, int receive_buffer_bytes) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  const timeval minute{60, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
  if (receive_buffer_bytes > 0)
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(socket_);
    throw std::runtime_error("connect: " + std::string(std::strerror(error)));
  }
}

Client::~Client() { ::close(socket_); }

void Client::send(const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const auto sent = ::send(socket_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return;  // the server has had enough
    done += static_cast<std::size_t>(sent);
  }
}

std::string Client::read_up_to(const std::string& end) {
  char piece[65536];
  for (;;) {
    if (const auto at = received_.find(end); !end.empty() && at != std::string::npos) {
      std::string text = received_.substr(0, at + end.size());
      received_.erase(0, text.size());
      return text;
    }
    const auto got = ::recv(socket_, piece, sizeof piece, 0);
    if (got <= 0) return std::exchange(received_, {});
    received_.append(piece, static_cast<std::size_t>(got));
  }
}

std::string Client::read_to_end() { return read_up_to(""); }

void Client::reset() {
  const linger at_once{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(socket_);
  socket_ = -1;
}

std::string request_text(const std::string& request, const std::string& body, bool keep_alive) {
  return request + " HTTP/1.1\r\nHost: test\r\n" + (keep_alive ? "" : "Connection: close\r\n") +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

Answer ask(std::uint16_t port, const std::string& request, const std::string& body) {
  Client client(port);
  client.send(request_text(request, body));
  const std::string text = client.read_to_end();
  Answer answer;
  const auto end = text.find("\r\n\r\n");
  if (text.compare(0, 9, "HTTP/1.1 ") != 0 || end == std::string::npos) return answer;
  answer.status = std::atoi(text.c_str() + 9);
  answer.head = text.substr(0, end + 2);
  answer.body = text.substr(end + 4);
  return answer;
}

}  // namespace redline::server::tests
