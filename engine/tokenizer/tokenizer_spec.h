// What a byte-level BPE tokenizer is, whatever file it came from. engine/tokenizer/tokenizer_json.h fills it
// from a Hugging Face directory; a GGUF file fills it as the comments here say (key -> field).
// engine/tokenizer/tokenizer.h runs it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace redline {

using TokenId = std::int32_t;
inline constexpr TokenId kNoToken = -1;

/// A token matched in the text before it is pre-tokenized. GGUF: each id whose `tokenizer.ggml.token_type` is
/// 3 (control: special = true) or 4 (user defined: special = false), content = its entry in `tokens`.
struct AddedToken {
  TokenId id = kNoToken;
  std::string content = {};  // raw UTF-8, not in the byte-level alphabet
  bool special = false;      // matched only where special tokens are parsed; left out of skip_special output
  bool normalized = false;   // matched after the tokens that are not (as Hugging Face orders them)
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool single_word = false;  // matched only between non-word characters
};

struct TokenizerSpec {
  std::string source = {};  // the file's name, for error messages

  /// Token texts by id in GPT-2's byte-level alphabet (space is U+0120 and so on), added tokens raw; empty
  /// for an id that does not exist. GGUF: `tokenizer.ggml.tokens`, where `tokenizer.ggml.model` is "gpt2".
  std::vector<std::string> tokens = {};
  /// "left right" in the same alphabet, best first. GGUF: `tokenizer.ggml.merges`.
  std::vector<std::string> merges = {};
  std::vector<AddedToken> added_tokens = {};

  /// PCRE2 patterns applied in turn: each cuts every piece into its matches and what lies between them.
  /// GGUF: set_pre_tokenizer(spec, `tokenizer.ggml.pre`), before the other fields.
  std::vector<std::string> split_patterns = {};
  /// A piece that is a token is that token, whatever the merges say (Llama 3). GGUF: set_pre_tokenizer.
  bool ignore_merges = false;

  /// GGUF: `tokenizer.ggml.add_bos_token`, `add_eos_token` where present, else what set_pre_tokenizer left.
  bool add_bos = false;
  bool add_eos = false;
  /// GGUF: `tokenizer.ggml.{bos,eos,padding}_token_id`.
  TokenId bos_id = kNoToken;
  TokenId eos_id = kNoToken;
  TokenId pad_id = kNoToken;
  /// Stands for a byte that the vocabulary lacks; kNoToken drops the byte. GGUF: leave it, for
  /// `unknown_token_id` names a token that byte-level BPE never makes.
  TokenId unk_id = kNoToken;
  /// Tokens that end a generation, ascending. Both loaders: add_end_of_generation_ids as the last step, after
  /// `tokenizer.ggml.{eot,eom}_token_id` or generation_config.json's eos_token_id were put in.
  std::vector<TokenId> end_of_generation_ids = {};

  /// Jinja source; empty if the model carries none. GGUF: `tokenizer.chat_template`.
  std::string chat_template = {};
};

/// Sets split_patterns, ignore_merges and add_bos to what GGUF's pre-tokenizer `name` ("smollm", "llama-bpe",
/// "gpt-2", "qwen2", "default", ...) stands for. False, and nothing set, if the name is unknown.
bool set_pre_tokenizer(TokenizerSpec& spec, std::string_view name);

/// The name that set_pre_tokenizer knows for the spec's patterns, or nothing.
std::string pre_tokenizer_name(const TokenizerSpec& spec);

/// The names that set_pre_tokenizer knows, joined by ", " for a message.
std::string known_pre_tokenizers();

/// Adds eos_id and every added token with a name that ends a turn or a text (<|im_end|>, <|eot_id|>,
/// <|endoftext|>, ...) to end_of_generation_ids; sorts them, each once.
void add_end_of_generation_ids(TokenizerSpec& spec);

}  // namespace redline
