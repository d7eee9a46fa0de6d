#include "engine/gguf_vocabulary.h"

#include <string>
#include <vector>

#include "engine/model_file_error.h"
#include "engine/tokenizer/gguf_pre_tokenizers.h"

namespace redline {

void add_vocabulary(GgufOutput& out, const TokenizerSpec& spec, std::int64_t vocab_size) {
  constexpr std::int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
  if (spec.model != TokenModelKind::kBpe || !spec.byte_level)
    throw ModelFileError({.file = spec.source, .item = "model"}, "byte-level BPE", "another tokenizer");
  const std::string pre = pre_tokenizer_name(spec);
  if (pre.empty()) {
    const Split* split =
        spec.pre_tokenizer.empty() ? nullptr : std::get_if<Split>(&spec.pre_tokenizer.front());
    throw ModelFileError({.file = spec.source, .item = "pre-tokenizer"}, "one that GGUF has a name for",
                         split ? split->pattern : "another");
  }
  std::vector<std::string> tokens = spec.tokens;
  std::vector<std::int32_t> types(tokens.size(), kNormal);
  for (const AddedToken& token : spec.added_tokens)
    types[static_cast<std::size_t>(token.id)] = token.special ? kControl : kUserDefined;
  for (std::size_t id = 0; id < tokens.size(); ++id)
    if (tokens[id].empty()) types[id] = kUnused;
  for (auto id = tokens.size(); id < static_cast<std::size_t>(vocab_size); ++id) {
    tokens.emplace_back();
    types.push_back(kUnused);
  }
  for (std::size_t id = 0; id < tokens.size(); ++id)  // names that must differ
    if (tokens[id].empty()) tokens[id] = "[PAD" + std::to_string(id) + "]";
  out.add_string("tokenizer.ggml.model", "gpt2");
  out.add_string("tokenizer.ggml.pre", pre);
  out.add_strings("tokenizer.ggml.tokens", tokens);
  out.add_ints("tokenizer.ggml.token_type", types);
  out.add_strings("tokenizer.ggml.merges", spec.merges);
  const auto add_id = [&](const char* key, TokenId id) {
    if (id != kNoToken) out.add_u32(key, id);
  };
  add_id("tokenizer.ggml.bos_token_id", spec.bos_id);
  add_id("tokenizer.ggml.eos_token_id", spec.eos_id);
  add_id("tokenizer.ggml.padding_token_id", spec.pad_id);
  for (const TokenId id : spec.end_of_generation_ids)
    if (id != spec.eos_id) {
      add_id("tokenizer.ggml.eot_token_id",
             id);  // GGUF has one more; llama.cpp knows the others by their names
      break;
    }
  out.add_bool("tokenizer.ggml.add_bos_token", !spec.prefix_ids.empty());
  out.add_bool("tokenizer.ggml.add_eos_token", !spec.suffix_ids.empty());
  if (!spec.chat_template.empty()) out.add_string("tokenizer.chat_template", spec.chat_template);
}

}  // namespace redline
