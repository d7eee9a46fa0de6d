#include <cctype>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "engine/chat_output/call_reader.h"
#include "engine/utf8.h"

namespace redline {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 128;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool continues_name(char c) { return begins_name(c) || is_digit(c) || c == '.' || c == '-'; }

std::string json_string(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Python's literals, written as JSON. Every member is false where the text is none.
class PythonText {
 public:
  explicit PythonText(std::string_view text) : rest_(text) {}

  bool call(std::string& json) {
    skip_name();
    if (!take('(')) return false;
    return items(')', json, &PythonText::keyword) && rest_.empty();
  }

 private:
  // What stands between an opening bracket and `close`, as a JSON object or, of single values, as an array.
  bool items(char close, std::string& json, bool (PythonText::*item)(std::string&)) {
    if (++depth_ > kMaxDepth) return false;
    const bool array = item == &PythonText::value;
    json += array ? '[' : '{';
    for (bool first = true; !take(close); first = false) {
      if (!first && !take(',')) return false;
      if (!first && take(close)) break;
      if (!first) json += ", ";
      if (!(this->*item)(json)) return false;
    }
    json += array ? ']' : '}';
    --depth_;
    return true;
  }

  bool keyword(std::string& json) {
    skip_space();
    const std::string_view name = skip_name();
    if (name.empty() || !take('=')) return false;
    json += json_string(std::string(name)) + ": ";
    return value(json);
  }

  bool entry(std::string& json) {
    std::string key;
    if (!value(key)) return false;
    json += (key.front() == '"' ? key : json_string(key)) + ": ";
    return take(':') && value(json);
  }

  bool value(std::string& json) {
    skip_space();
    if (rest_.empty()) return false;
    const char c = rest_.front();
    if (c == '"' || c == '\'') return string(json);
    if (c == '[') return take('[') && items(']', json, &PythonText::value);
    if (c == '(') return take('(') && items(')', json, &PythonText::value);
    if (c == '{') return take('{') && items('}', json, &PythonText::entry);
    if (begins_name(c)) return word(json);
    return number(json);
  }

  bool word(std::string& json) {
    const std::string_view name = skip_name();
    for (const auto& [python, text] : {std::pair{"True", "true"}, {"False", "false"}, {"None", "null"}})
      if (name == python || name == text) {
        json += text;
        return true;
      }
    return false;
  }

  bool number(std::string& json) {
    std::size_t length = 0;
    while (length < rest_.size() && (is_digit(rest_[length]) || std::string_view("+-.eE_").find(
                                                                    rest_[length]) != std::string_view::npos))
      ++length;
    std::string text(rest_.substr(0, length));
    rest_.remove_prefix(length);
    std::erase(text, '_');
    if (!Json::accept(text)) {  // "1.", ".5", "+1"
      char* end = nullptr;
      const double number = std::strtod(text.c_str(), &end);
      if (text.empty() || *end) return false;
      text = Json(number).dump();
    }
    json += text;
    return true;
  }

  bool string(std::string& json) {
    const char quote = rest_.front();
    rest_.remove_prefix(1);
    std::string text;
    while (!rest_.empty() && rest_.front() != quote) {
      const char c = rest_.front();
      rest_.remove_prefix(1);
      if (c != '\\')
        text += c;
      else if (!escape(text))
        return false;
    }
    if (rest_.empty()) return false;
    rest_.remove_prefix(1);
    json += json_string(text);
    return true;
  }

  bool escape(std::string& text) {
    if (rest_.empty()) return false;
    const char c = rest_.front();
    rest_.remove_prefix(1);
    constexpr std::string_view kNames = "nrtabfv0\\'\"\n", kBytes("\n\r\t\a\b\f\v\0\\'\"", 11);
    const std::size_t at = kNames.find(c);
    if (c == '\n') return true;  // a line that goes on
    if (at != std::string_view::npos) {
      text += kBytes[at];
      return true;
    }
    const std::size_t num_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (num_digits == 0) {
      text += {'\\', c};  // as Python does
      return true;
    }
    if (rest_.size() < num_digits) return false;
    const std::string digits(rest_.substr(0, num_digits));
    rest_.remove_prefix(num_digits);
    if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return false;
    const auto code_point = static_cast<char32_t>(std::strtoul(digits.c_str(), nullptr, 16));
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000)) return false;
    append_utf8(text, code_point);
    return true;
  }

  std::string_view skip_name() {
    std::size_t length = 0;
    while (length < rest_.size() && continues_name(rest_[length])) ++length;
    const std::string_view name = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return name;
  }
  void skip_space() {
    while (!rest_.empty() && is_space(rest_.front())) rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::string_view rest_;
  int depth_ = 0;
};

// Each call is held until it is whole: a literal is not JSON before it is known.
class PythonCallReader final : public CallReader {
 public:
  PythonCallReader(bool list, KnowsTool knows) : list_(list), knows_(std::move(knows)) {
    place_ = list_ ? Place::kBegin : Place::kBetween;
  }

  CallStep feed(char c, CallSink& sink) override {
    switch (place_) {
      case Place::kBegin:
        if (c != '[') return CallStep::kBad;
        place_ = Place::kBetween;
        return CallStep::kHeld;
      case Place::kBetween:
        return between(c);
      case Place::kName:
        return in_name(c);
      case Place::kArguments:
        return in_arguments(c, sink);
      default:
        return after(c);
    }
  }

 private:
  enum class Place { kBegin, kBetween, kName, kArguments, kAfter };

  CallStep between(char c) {
    if (is_space(c)) return CallStep::kHeld;
    if (!begins_name(c)) return !list_ && num_calls_ > 0 ? CallStep::kEnded : CallStep::kBad;
    call_ = c;
    place_ = Place::kName;
    return CallStep::kHeld;
  }

  CallStep in_name(char c) {
    if (continues_name(c)) {
      call_ += c;
      return call_.size() > 256 ? CallStep::kBad : CallStep::kHeld;
    }
    if (c != '(' || !knows_(call_)) return CallStep::kBad;
    name_ = call_;
    call_ += c;
    depth_ = 1;
    place_ = Place::kArguments;
    return CallStep::kHeld;
  }

  CallStep in_arguments(char c, CallSink& sink) {
    call_ += c;
    if (quote_) {
      if (!std::exchange(escaped_, !escaped_ && c == '\\') && c == quote_) quote_ = 0;
      return CallStep::kHeld;
    }
    if (c == '"' || c == '\'') quote_ = c;
    if (c == '(' || c == '[' || c == '{') ++depth_;
    if (c == ')' || c == ']' || c == '}') --depth_;
    if (depth_ > kMaxDepth) return CallStep::kBad;
    if (depth_ > 0) return CallStep::kHeld;
    std::string json;
    if (!python_arguments(call_, json)) return CallStep::kBad;
    sink.begin_call(name_);
    sink.add_arguments(json);
    ++num_calls_;
    place_ = list_ ? Place::kAfter : Place::kBetween;
    return CallStep::kTaken;
  }

  CallStep after(char c) {
    if (c == ']') return CallStep::kDone;
    if (c == ',') place_ = Place::kBetween;
    return c == ',' || is_space(c) ? CallStep::kHeld : CallStep::kBad;
  }

  const bool list_;
  const KnowsTool knows_;
  Place place_;
  std::string call_, name_;
  int depth_ = 0, num_calls_ = 0;
  char quote_ = 0;
  bool escaped_ = false;
};

}  // namespace

std::unique_ptr<CallReader> make_python_call_reader(CallSyntax syntax, KnowsTool knows) {
  return std::make_unique<PythonCallReader>(syntax == CallSyntax::kPython, std::move(knows));
}

bool python_arguments(std::string_view text, std::string& json) { return PythonText(text).call(json); }

}  // namespace redline
