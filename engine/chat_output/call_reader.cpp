#include "engine/chat_output/call_reader.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/chat_output/json_text.h"

namespace redline {
namespace {

using Json = nlohmann::json;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::optional<std::string> string_value(const std::string& json) {
  const Json value = Json::parse(json, nullptr, false);
  if (!value.is_string()) return std::nullopt;
  return value.get<std::string>();
}

class JsonCallReader final : public CallReader {
 public:
  explicit JsonCallReader(KnowsTool knows) : knows_(std::move(knows)) {}

  CallStep feed(char c, CallSink& sink) override {
    const int depth = json_.depth();
    const JsonByte byte = json_.feed(c);
    if (byte == JsonByte::kBad) return CallStep::kBad;
    if (depth == 0 && byte == JsonByte::kOpen && c == '[') {
      depth_of_calls_ = 1;
      return CallStep::kHeld;
    }
    if (depth > depth_of_calls_) return in_call(c, byte, depth - depth_of_calls_, sink);
    if (byte == JsonByte::kOpen && c == '{')
      call_ = {};
    else if (byte == JsonByte::kOpen || byte == JsonByte::kScalar)
      return CallStep::kBad;
    if (json_.done()) return num_calls_ > 0 ? CallStep::kDone : CallStep::kBad;
    return CallStep::kHeld;
  }

 private:
  struct CallSoFar {
    std::string key, value;  // of the member under way
    std::optional<std::string> name, arguments;
    bool begun = false;          // the sink knows it
    bool has_arguments = false;  // all or a part
  };

  // `depth`: 1 between the call's own braces.
  CallStep in_call(char c, JsonByte byte, int depth, CallSink& sink) {
    if (depth == 1) {
      if (byte == JsonByte::kSpace) return CallStep::kHeld;
      if (byte == JsonByte::kKey) {
        call_.key += c;
        return CallStep::kHeld;
      }
      if (byte == JsonByte::kColon) {
        call_.key = string_value(call_.key).value_or("");
        return CallStep::kHeld;
      }
      if (byte == JsonByte::kComma || byte == JsonByte::kClose) {
        if (!end_member()) return CallStep::kBad;
        return byte == JsonByte::kClose ? end_call(sink) : CallStep::kHeld;
      }
    }
    return in_value(c, sink);
  }

  CallStep in_value(char c, CallSink& sink) {
    const bool first = call_.value.empty();
    if (is_arguments()) {
      if (first && call_.has_arguments) return CallStep::kBad;
      call_.has_arguments = true;
      if (first && c == '{' && call_.name) begin(sink);
      if (call_.begun) {
        call_.value = c;  // only its first byte counts
        sink.add_arguments({&c, 1});
        return CallStep::kTaken;
      }
    }
    call_.value += c;
    return CallStep::kHeld;
  }

  bool is_arguments() const { return call_.key == "arguments" || call_.key == "parameters"; }

  // A member's value is whole. False where it cannot be a call's.
  bool end_member() {
    const std::string value = std::exchange(call_.value, {});
    if (call_.key == "name") {
      if (call_.name) return false;
      call_.name = string_value(value);
      if (!call_.name || call_.name->empty() || !knows_(*call_.name)) return false;
    } else if (is_arguments() && !call_.begun) {
      call_.arguments = value == "null" ? "{}" : string_value(value).value_or(value);
      if (!Json::parse(*call_.arguments, nullptr, false).is_object()) return false;
    }
    call_.key.clear();
    return true;
  }

  CallStep end_call(CallSink& sink) {
    if (!call_.name) return CallStep::kBad;
    if (!call_.begun) {
      begin(sink);
      sink.add_arguments(call_.arguments.value_or("{}"));
    }
    return json_.done() ? CallStep::kDone : CallStep::kTaken;
  }

  void begin(CallSink& sink) {
    call_.begun = true;
    ++num_calls_;
    sink.begin_call(*call_.name);
  }

  const KnowsTool knows_;
  JsonText json_;
  int depth_of_calls_ = 0;  // 1 within an array
  int num_calls_ = 0;
  CallSoFar call_;
};

// NAME, perhaps [CALL_ID]ID and [ARGS], then an object; or what JsonCallReader takes.
class NamedCallReader final : public CallReader {
 public:
  explicit NamedCallReader(KnowsTool knows) : knows_(std::move(knows)), calls_(knows_) {}

  CallStep feed(char c, CallSink& sink) override {
    if (is_json_) return calls_.feed(c, sink);
    if (in_arguments_) return argument(c, sink);
    if (head_.empty() && is_space(c)) return CallStep::kHeld;
    if (head_.empty() && (c == '[' || c == '{')) {
      is_json_ = true;
      return calls_.feed(c, sink);
    }
    if (c != '{') {
      head_ += c;
      return head_.size() > 256 || c == '<' ? CallStep::kBad : CallStep::kHeld;
    }
    const std::string name = name_in_head();
    if (name.empty() || !knows_(name)) return CallStep::kBad;
    sink.begin_call(name);
    in_arguments_ = true;
    return argument(c, sink);
  }

 private:
  CallStep argument(char c, CallSink& sink) {
    if (json_.feed(c) == JsonByte::kBad) return CallStep::kBad;
    sink.add_arguments({&c, 1});
    return json_.done() ? CallStep::kDone : CallStep::kTaken;
  }

  // Empty where the head is none.
  std::string name_in_head() const {
    const std::string_view name = std::string_view(head_).substr(0, head_.find_first_of("[ \n"));
    std::string_view rest = std::string_view(head_).substr(name.size());
    constexpr std::string_view kId = "[CALL_ID]", kArguments = "[ARGS]";
    if (rest.starts_with(kId)) {
      const auto end = rest.find('[', kId.size());
      if (end == std::string_view::npos) return {};
      rest.remove_prefix(end);
    }
    if (rest.starts_with(kArguments)) rest.remove_prefix(kArguments.size());
    return rest.find_first_not_of(" \n") == std::string_view::npos ? std::string(name) : std::string();
  }

  const KnowsTool knows_;
  JsonCallReader calls_;
  JsonText json_;  // of the arguments
  std::string head_;
  bool is_json_ = false, in_arguments_ = false;
};

}  // namespace

std::unique_ptr<CallReader> make_call_reader(CallSyntax syntax, KnowsTool knows) {
  switch (syntax) {
    case CallSyntax::kJson:
      return std::make_unique<JsonCallReader>(std::move(knows));
    case CallSyntax::kNamed:
      return std::make_unique<NamedCallReader>(std::move(knows));
    default:
      return make_python_call_reader(syntax, std::move(knows));
  }
}

}  // namespace redline
