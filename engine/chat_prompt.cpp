#include "engine/chat_prompt.h"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace redline {
namespace {

std::vector<std::pair<std::string, std::string>> special_tokens(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  std::vector<std::pair<std::string, std::string>> names;
  for (const auto& [name, id] : {std::pair{"bos_token", spec.bos_id},
                                 {"eos_token", spec.eos_id},
                                 {"unk_token", spec.unk_id},
                                 {"pad_token", spec.pad_id}})
    if (id != kNoToken) names.emplace_back(name, tokenizer.piece(id));
  return names;
}

}  // namespace

ChatPrompt::ChatPrompt(const Tokenizer& tokenizer)
    : ChatPrompt(tokenizer, tokenizer.spec().source + ": chat template", tokenizer.spec().chat_template) {
  if (tokenizer.spec().chat_template.empty()) template_ = nullptr;
}

ChatPrompt::ChatPrompt(const Tokenizer& tokenizer, std::string name, const std::string& source)
    : tokenizer_(tokenizer), name_(std::move(name)) {
  try {
    template_ = std::make_unique<ChatTemplate>(source);
  } catch (const TemplateError& error) {
    throw std::runtime_error(name_ + ": " + error.what());
  }
}

std::string ChatPrompt::render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                               bool add_generation_prompt, const nlohmann::ordered_json& more) const {
  if (!template_)
    throw std::runtime_error(name_ + ": the model carries none; run --raw takes a prompt as it is");
  try {
    return template_->render(
        chat_variables(messages, tools, special_tokens(tokenizer_), add_generation_prompt, more));
  } catch (const TemplateError& error) {
    throw std::runtime_error(name_ + ": " + error.what());
  }
}

std::vector<TokenId> ChatPrompt::tokens(const nlohmann::ordered_json& messages) const {
  return tokenizer_.encode(render(messages, nullptr, true, nullptr),
                           {.add_special = false, .parse_special = true});
}

}  // namespace redline
