// Conversations as a model is shown them.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/chat_template/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace redline {

/// A chat template with the tokenizer whose special tokens it names.
class ChatPrompt {
 public:
  /// The template that the model carries, if it does. Keeps a reference to `tokenizer`. Throws
  /// std::runtime_error naming the file and line of what is wrong.
  explicit ChatPrompt(const Tokenizer& tokenizer);
  /// The template `source`, which messages call `name`.
  ChatPrompt(const Tokenizer& tokenizer, std::string name, const std::string& source);

  /// Whether there is a template.
  explicit operator bool() const { return template_ != nullptr; }
  /// `messages`: [{role, content}, ...]; `tools` and `more` (variables that go before all others) may be
  /// null. Throws std::runtime_error: there is no template, or it fails.
  std::string render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                     bool add_generation_prompt, const nlohmann::ordered_json& more) const;
  /// The ids of the rendered conversation, the assistant's turn opened.
  std::vector<TokenId> tokens(const nlohmann::ordered_json& messages) const;

 private:
  const Tokenizer& tokenizer_;
  std::string name_;  // for error messages
  std::unique_ptr<ChatTemplate> template_;
};

}  // namespace redline
