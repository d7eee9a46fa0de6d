#include "engine/chat_output/chat_output.h"

#include <algorithm>
#include <utility>

namespace redline {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

// Every byte goes through one state after the other, so pieces cannot matter.
class ChatOutput::Parser final : private CallSink {
 public:
  explicit Parser(ChatOutputOptions options) : options_(std::move(options)) {
    if (options_.reasoning) state_ = options_.reasoning_open ? State::kReasoning : State::kBeforeReasoning;
  }

  ChatDelta feed(std::string_view text) {
    if (!options_.calls && !options_.reasoning) return {.content = std::string(text)};
    for (const char c : text) feed(c);
    return std::exchange(delta_, {});
  }

  ChatDelta finish() {
    if (state_ == State::kCalls) give_back_calls();
    if (state_ == State::kReasoning) {
      delta_.reasoning += space_ + held_;
    } else {
      for (const char c : std::exchange(held_, {})) add_text(c);
      if (!beside_calls_) delta_.content += space_;
    }
    held_.clear();
    space_.clear();
    return std::exchange(delta_, {});
  }

  std::int32_t num_calls() const { return num_calls_; }

 private:
  enum class State { kBeforeReasoning, kReasoning, kContent, kCalls };

  void feed(char c) {
    switch (state_) {
      case State::kBeforeReasoning:
        return before_reasoning(c);
      case State::kReasoning:
        return in_reasoning(c);
      case State::kContent:
        return in_content(c);
      case State::kCalls:
        return in_calls(c);
    }
  }

  void before_reasoning(char c) {
    held_ += c;
    const auto begin = held_.find_first_not_of(" \t\n\r");
    if (begin == std::string::npos) return;
    const std::string_view found = std::string_view(held_).substr(begin);
    if (found == options_.reasoning->open) {
      held_.clear();
      state_ = State::kReasoning;
    } else if (!options_.reasoning->open.starts_with(found)) {
      state_ = State::kContent;
      for (const char each : std::exchange(held_, {})) feed(each);
    }
  }

  void in_reasoning(char c) {
    held_ += c;
    const std::string_view close = options_.reasoning->close;
    while (!held_.empty() && !close.starts_with(held_)) {
      const char first = held_.front();
      held_.erase(0, 1);
      if (is_space(first)) {
        space_ += first;
        continue;
      }
      if (std::exchange(has_reasoned_, true)) delta_.reasoning += space_;
      space_.clear();
      delta_.reasoning += first;
    }
    if (held_ != close) return;
    held_.clear();
    space_.clear();
    state_ = State::kContent;
    beside_calls_ = true;
  }

  void in_content(char c) {
    held_ += c;
    while (!held_.empty()) {
      bool may_become_one = false;
      if (options_.calls && marker(may_become_one)) return;
      if (may_become_one) return;
      const char first = held_.front();
      held_.erase(0, 1);
      add_text(first);
    }
  }

  // Whether what is held is a marker, which then has taken effect, or may become one.
  bool marker(bool& may_become_one) {
    for (const CallOpener& opener : options_.calls->openers) {
      if (opener.bare && !at_start_) continue;
      if (held_ == opener.marker) {
        begin_calls(opener);
        return true;
      }
      may_become_one = may_become_one || opener.marker.starts_with(held_);
    }
    if (!after_calls_) return false;
    for (const std::string_view closer : options_.calls->closers) {
      if (held_ == closer) {
        held_.clear();
        return true;
      }
      may_become_one = may_become_one || closer.starts_with(held_);
    }
    return false;
  }

  void begin_calls(const CallOpener& opener) {
    KnowsTool knows = [](const std::string&) { return true; };
    if (opener.bare)
      knows = [this](const std::string& name) {
        return std::ranges::find(options_.tools, name) != options_.tools.end();
      };
    reader_ = make_call_reader(opener.syntax, std::move(knows));
    whole_ = options_.whole_calls || opener.syntax == CallSyntax::kCode;
    num_calls_before_ = num_calls_;
    state_ = State::kCalls;
    if (opener.bare) in_calls(std::exchange(held_, {}).front());
  }

  void in_calls(char c) {
    held_ += c;
    switch (reader_->feed(c, *this)) {
      case CallStep::kHeld:
        return;
      case CallStep::kTaken:
        if (!whole_) held_.clear();
        return;
      case CallStep::kDone:
        return end_calls();
      case CallStep::kEnded:
        end_calls();
        return feed(c);
      case CallStep::kBad:
        held_.pop_back();
        give_back_calls();
        return feed(c);
    }
  }

  void end_calls() {
    held_.clear();
    for (ChatDelta::Call& call : std::exchange(tentative_, {})) add(std::move(call));
    state_ = State::kContent;
    after_calls_ = beside_calls_ = true;
  }

  // What was held proved to be no call.
  void give_back_calls() {
    if (whole_) num_calls_ = num_calls_before_;
    tentative_.clear();
    state_ = State::kContent;
    for (const char c : std::exchange(held_, {})) add_text(c);
  }

  void add_text(char c) {
    if (is_space(c)) {
      space_ += c;
      return;
    }
    if (!beside_calls_ || has_content_) delta_.content += space_;
    space_.clear();
    delta_.content += c;
    has_content_ = true;
    at_start_ = after_calls_ = beside_calls_ = false;
  }

  void begin_call(const std::string& name) override { put({num_calls_++, name, {}}); }
  void add_arguments(std::string_view text) override { put({num_calls_ - 1, {}, std::string(text)}); }

  void put(ChatDelta::Call call) {
    if (options_.one_call && call.index > 0) return;
    if (whole_)
      tentative_.push_back(std::move(call));
    else
      add(std::move(call));
  }

  // One entry a call in each delta.
  void add(ChatDelta::Call call) {
    if (call.name.empty() && !delta_.calls.empty() && delta_.calls.back().index == call.index)
      delta_.calls.back().arguments += call.arguments;
    else
      delta_.calls.push_back(std::move(call));
  }

  const ChatOutputOptions options_;
  State state_ = State::kContent;
  ChatDelta delta_;
  std::string held_;   // may yet be a marker or calls
  std::string space_;  // white space after what was told last
  bool has_reasoned_ = false, has_content_ = false;
  bool at_start_ = true;       // no content so far
  bool after_calls_ = false;   // calls were the last thing but white space
  bool beside_calls_ = false;  // space_ stands beside calls, or after reasoning

  std::unique_ptr<CallReader> reader_;
  bool whole_ = false;  // what it tells counts once all is whole
  std::vector<ChatDelta::Call> tentative_;
  std::int32_t num_calls_ = 0, num_calls_before_ = 0;
};

ChatOutput::ChatOutput(ChatOutputOptions options) : parser_(std::make_unique<Parser>(std::move(options))) {}
ChatOutput::~ChatOutput() = default;
ChatOutput::ChatOutput(ChatOutput&&) noexcept = default;
ChatDelta ChatOutput::feed(std::string_view text) { return parser_->feed(text); }
ChatDelta ChatOutput::finish() { return parser_->finish(); }
std::int32_t ChatOutput::num_calls() const { return parser_->num_calls(); }

}  // namespace redline
