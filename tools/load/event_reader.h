// Server-sent events out of bytes as they come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace redline::load {

/// The data of each event, whatever pieces the bytes come in. Lines may end in \n or \r\n; comments and other
/// fields are passed over, several data lines of one event joined by \n.
class EventReader {
 public:
  std::vector<std::string> feed(std::string_view bytes);

 private:
  std::string line_, data_;
  bool has_data_ = false;
};

}  // namespace redline::load
