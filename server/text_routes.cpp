#include "server/text_routes.h"

#include <cstddef>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace redline::server {
namespace {

const Tokenizer& tokenizer_of(const ServedModel& served) {
  if (!served.model->tokenizer) throw ApiError(400, "the model has no tokenizer", "", "no_tokenizer");
  return *served.model->tokenizer;
}

}  // namespace

HttpResponse tokenize(const std::string& body, const ServedModel& served) {
  const Json json = parse_body(body);
  const Fields fields(json);
  read_model_name(fields, served);
  const Tokenizer& tokenizer = tokenizer_of(served);
  std::string text;
  bool special = fields.boolean("add_special_tokens").value_or(true);
  const bool peer_form = fields.find("content") != nullptr;  // llama.cpp's
  if (peer_form) {
    text = *fields.text("content");
    special = fields.boolean("add_special").value_or(false);
  } else if (fields.find("messages")) {
    text = render_chat(fields, read_tools(fields), served);
    special = false;
  } else if (const auto prompt = fields.text("prompt")) {
    text = *prompt;
  } else {
    fields.fail("prompt", "a string (or messages, or content)");
  }
  const auto ids = tokenizer.encode(text, {.add_special = special});
  Json pieces = Json::array();
  for (const TokenId id : ids) pieces.push_back(std::string(tokenizer.piece(id)));
  if (peer_form) {
    if (!fields.boolean("with_pieces").value_or(false)) return json_response({{"tokens", ids}});
    Json tokens = Json::array();
    for (std::size_t i = 0; i < ids.size(); ++i) tokens.push_back({{"id", ids[i]}, {"piece", pieces[i]}});
    return json_response({{"tokens", std::move(tokens)}});
  }
  return json_response({{"count", ids.size()},
                        {"max_model_len", served.max_context},
                        {"tokens", ids},
                        {"token_strs", std::move(pieces)}});
}

HttpResponse detokenize(const std::string& body, const ServedModel& served) {
  const Json json = parse_body(body);
  const Fields fields(json);
  read_model_name(fields, served);
  const Tokenizer& tokenizer = tokenizer_of(served);
  std::vector<TokenId> ids;
  if (!fields.find("tokens")) fields.fail("tokens", "an array of token ids");
  for (const auto id : fields.integers("tokens", 0, tokenizer.num_tokens() - 1, 1u << 24))
    ids.push_back(static_cast<TokenId>(id));
  const std::string text = tokenizer.decode(ids);
  return json_response({{"prompt", text}, {"content", text}});
}

HttpResponse apply_template(const std::string& body, const ServedModel& served) {
  const Json json = parse_body(body);
  const Fields fields(json);
  read_model_name(fields, served);
  return json_response({{"prompt", render_chat(fields, read_tools(fields), served)}});
}

}  // namespace redline::server
