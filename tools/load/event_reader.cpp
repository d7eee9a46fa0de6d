#include "tools/load/event_reader.h"

#include <utility>

namespace redline::load {

std::vector<std::string> EventReader::feed(std::string_view bytes) {
  std::vector<std::string> events;
  for (const char c : bytes) {
    if (c != '\n') {
      line_ += c;
      continue;
    }
    if (line_.ends_with('\r')) line_.pop_back();
    if (line_.empty()) {
      if (std::exchange(has_data_, false)) events.push_back(std::exchange(data_, {}));
    } else if (line_.starts_with("data:")) {
      if (std::exchange(has_data_, true)) data_ += '\n';
      data_.append(line_, line_.starts_with("data: ") ? 6 : 5);
    }
    line_.clear();
  }
  return events;
}

}  // namespace redline::load
