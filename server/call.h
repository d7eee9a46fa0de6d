// A completion as a client asks for it, read from its JSON body.
#pragma once

#include <string>
#include <vector>

#include "engine/chat_output/chat_output.h"
#include "engine/chat_prompt.h"
#include "engine/constraint/constraint_compiler.h"
#include "engine/engine.h"
#include "server/chat_messages.h"
#include "server/fields.h"

namespace redline::server {

/// What the routes know of the model that they serve.
struct ServedModel {
  const LoadedModel* model = nullptr;
  const ChatPrompt* chat = nullptr;  // null: there is no tokenizer
  std::int64_t max_context = 0;
  std::vector<std::string> names;            // the first is its own
  const ToolCallForm* tool_calls = nullptr;  // how it writes them; null: not at all
  const ReasoningForm* reasoning = nullptr;
  std::vector<TokenId> tool_call_tokens, reasoning_tokens;  // special tokens that mark them
  ConstraintCompiler* constraints = nullptr;                // null: there is no tokenizer
};

struct Call {
  bool chat = false;
  std::string model;                      // as the client called it
  std::vector<Request> requests;          // one for each prompt; each has n answers
  std::vector<std::string> prompt_texts;  // by prompt, where the answer repeats it (echo)
  bool echoes_logprobs = false;           // the prompt's are part of the answer's
  std::int32_t num_prompt_logprobs = -1;  // likeliest tokens that prompt_logprobs tells; -1: no such field
  ChatOutputOptions output;               // of a chat: what its text is read for
  bool stream = false;
  bool include_usage = false;     // in a chunk of its own at the end of a stream
  bool continuous_usage = false;  // in every chunk
};

/// Throws ApiError 404 for a name that the model is not served by.
void check_model_name(const std::string& name, const ServedModel& served);
/// The name that the fields say, or else its own. Throws likewise.
std::string read_model_name(const Fields& fields, const ServedModel& served);

/// The prompt that a chat's fields come to. Throws ApiError naming the field.
std::string render_chat(const Fields& fields, const ToolUse& use, const ServedModel& served);

/// The body of /v1/completions or /v1/chat/completions. Throws ApiError naming the field.
Call parse_completion(const Json& body, const ServedModel& served);
Call parse_chat(const Json& body, const ServedModel& served);

}  // namespace redline::server
