// The routes that turn text into tokens and messages into prompts; each takes vLLM's fields and llama.cpp's.
#pragma once

#include <string>

#include "server/call.h"

namespace redline::server {

/// Answers of POST /tokenize, /detokenize and /apply-template. They throw ApiError naming the field.
HttpResponse tokenize(const std::string& body, const ServedModel& served);
HttpResponse detokenize(const std::string& body, const ServedModel& served);
HttpResponse apply_template(const std::string& body, const ServedModel& served);

}  // namespace redline::server
