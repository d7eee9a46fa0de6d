// A completion as a client asks for it, read from its JSON body.
#pragma once

#include <string>
#include <vector>

#include "engine/chat_prompt.h"
#include "engine/engine.h"
#include "server/fields.h"

namespace redline::server {

/// What the routes know of the model that they serve.
struct ServedModel {
  const LoadedModel* model = nullptr;
  const ChatPrompt* chat = nullptr;  // null: there is no tokenizer
  std::int64_t max_context = 0;
  std::vector<std::string> names;  // the first is its own
};

struct Call {
  bool chat = false;
  std::string model;                      // as the client called it
  std::vector<Request> requests;          // one for each prompt; each has n answers
  std::vector<std::string> prompt_texts;  // by prompt, where the answer repeats it (echo)
  bool stream = false;
  bool include_usage = false;     // in a chunk of its own at the end of a stream
  bool continuous_usage = false;  // in every chunk
};

/// The body of /v1/completions or /v1/chat/completions. Throws ApiError naming the field.
Call parse_completion(const Json& body, const ServedModel& served);
Call parse_chat(const Json& body, const ServedModel& served);

}  // namespace redline::server
