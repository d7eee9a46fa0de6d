// An assistant's text, as it is generated, into what it thinks, what it says and the tools it calls.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/chat_output/chat_form.h"

namespace redline {

struct ChatOutputOptions {
  const ToolCallForm* calls = nullptr;       // null: all is content
  const ReasoningForm* reasoning = nullptr;  // null: no reasoning is looked for
  bool reasoning_open = false;               // the prompt ends inside of it
  std::vector<std::string> tools = {};       // names that the request has
  bool one_call = false;                     // of several calls, the first counts
  /// Calls count only once all that began together are whole. Else they are told as they grow, and one that
  /// breaks off stays broken off.
  bool whole_calls = false;
};

/// What some text adds to an answer.
struct ChatDelta {
  struct Call {
    std::int32_t index = 0;      // of the answer's calls
    std::string name = {};       // where the call begins here
    std::string arguments = {};  // more of the arguments' JSON text
  };
  std::string reasoning = {}, content = {};
  std::vector<Call> calls = {};

  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

/// One answer. However its text is cut into pieces, the deltas add up to the same. All text that is no call
/// and no reasoning is content, in order and as it is; only white space is dropped: around reasoning and
/// around calls where no content is beside it.
class ChatOutput {
 public:
  explicit ChatOutput(ChatOutputOptions options);
  ~ChatOutput();
  ChatOutput(ChatOutput&&) noexcept;

  ChatDelta feed(std::string_view text);
  /// The text has ended: what was held back.
  ChatDelta finish();
  /// Calls so far.
  std::int32_t num_calls() const;

 private:
  class Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace redline
