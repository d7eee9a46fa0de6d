// redline tokenize: text to token ids and back; no weights are loaded.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/checkpoint.h"
#include "engine/tokenizer/tokenizer.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct TokenizeFlags {
  std::string model, file, decode;
  std::optional<std::string> text;
  bool no_special = false, no_parse_special = false, json = false;
};

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

int decode(const Tokenizer& tokenizer, const TokenizeFlags& flags) {
  const std::vector<TokenId> ids = read_token_ids(flags.decode);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= tokenizer.num_tokens())
      throw std::runtime_error(flags.decode + ": element " + std::to_string(i) + ": token " +
                               std::to_string(ids[i]) + " is beyond the vocabulary of " +
                               std::to_string(tokenizer.num_tokens()));
  const std::string text = tokenizer.decode(ids);
  if (flags.json)
    std::printf("%s\n", dump({{"text", text}}).c_str());
  else
    std::fwrite(text.data(), 1, text.size(), stdout);
  return kExitDone;
}

int tokenize(const TokenizeFlags& flags) {
  if ((flags.text ? 1 : 0) + (flags.file.empty() ? 0 : 1) + (flags.decode.empty() ? 0 : 1) > 1)
    throw UsageError("TEXT, --file and --decode exclude each other");
  const Tokenizer tokenizer(Checkpoint(flags.model).tokenizer_spec());
  if (!flags.decode.empty()) return decode(tokenizer, flags);
  const std::string text = flags.text           ? *flags.text
                           : flags.file.empty() ? read_standard_input()
                                                : read_file(flags.file);
  const std::vector<TokenId> ids =
      tokenizer.encode(text, {.add_special = !flags.no_special, .parse_special = !flags.no_parse_special});
  Json pieces = Json::array();
  for (const TokenId id : ids) pieces.push_back(tokenizer.piece(id));
  if (flags.json) {
    std::printf("%s\n", dump({{"ids", ids}, {"pieces", pieces}}).c_str());
  } else {
    for (std::size_t i = 0; i < ids.size(); ++i) std::printf("%7d %s\n", ids[i], dump(pieces[i]).c_str());
  }
  return kExitDone;
}

}  // namespace

Action declare_tokenize(Flags& flags) {
  const auto values = std::make_shared<TokenizeFlags>();
  add_model_argument(flags, values->model);
  flags.argument("TEXT", "The text (default: standard input)", values->text);
  flags.text("-f,--file", "FILE", "Read the text from a file, byte for byte", values->file);
  flags.flag("--no-special", "Leave out the BOS and EOS that the model asks for", values->no_special);
  flags.flag("--no-parse-special", "Take special tokens in the text as text", values->no_parse_special);
  flags.text("--decode", "FILE", "Print the text of a JSON array of token ids", values->decode);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return tokenize(*values); };
}

}  // namespace redline
