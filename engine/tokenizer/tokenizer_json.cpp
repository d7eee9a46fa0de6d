#include "engine/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "engine/tokenizer/sentencepiece_file.h"
#include "engine/tokenizer/tokenizer_json_steps.h"

namespace redline {
namespace {

using Json = JsonTree::Json;

constexpr const char *kVocab = "model.vocab", *kMerges = "model.merges";

// Ids may leave gaps, but a table of them must not be larger than the file.
void put(const JsonTree& file, const char* key, std::vector<std::string>& tokens, TokenId id,
         std::string text) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= file.file_bytes())
    file.fail(key, "an id below the file's size, " + std::to_string(file.file_bytes()), id);
  if (index >= tokens.size()) tokens.resize(index + 1);
  tokens[index] = std::move(text);
}

void read_merges(JsonTree& file, const Json& model, TokenizerSpec& spec) {
  file.array(model, "merges");
  for (auto& [none, merge] : file.take_list(kMerges)) {
    const bool is_pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (!is_pair && !merge.is_string()) file.fail(kMerges, "two tokens", merge);
    if (is_pair) merge[0].get_ref<std::string&>().append(" ").append(merge[1].get_ref<const std::string&>());
    spec.merges.push_back(std::move((is_pair ? merge[0] : merge).get_ref<std::string&>()));
  }
}

void read_bpe(JsonTree& file, const Json& model, TokenizerSpec& spec) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto text = file.get<std::string>(model, key, ""); !text.empty())
      file.fail(std::string("model.") + key, "nothing", text);
  if (const double dropout = file.get<double>(model, "dropout", 0); dropout != 0)
    file.fail("model.dropout", "none", dropout);
  spec.ignore_merges = file.get(model, "ignore_merges", false);
  spec.byte_fallback = file.get(model, "byte_fallback", false);
  spec.fuse_unk = file.get(model, "fuse_unk", false);
  const auto unk = file.get<std::string>(model, "unk_token", "");
  Json unk_id;
  file.object(model, "vocab");
  for (auto& [text, id] : file.take_list(kVocab)) {
    if (!unk.empty() && text == unk) unk_id = id;
    put(file, kVocab, spec.tokens, file.as<TokenId>(id, kVocab), std::move(text));
  }
  if (spec.tokens.empty()) file.fail(kVocab, "an object of tokens", file.object(model, "vocab"));
  if (!unk.empty()) spec.unk_id = file.as<TokenId>(unk_id, "model.unk_token");
  read_merges(file, model, spec);
}

void read_unigram(JsonTree& file, const Json& model, TokenizerSpec& spec) {
  spec.model = TokenModelKind::kUnigram;
  spec.byte_fallback = file.get(model, "byte_fallback", false);
  spec.fuse_unk = true;
  spec.unk_id = file.get<TokenId>(model, "unk_id", kNoToken);
  file.array(model, "vocab");
  for (const auto& [none, entry] : file.take_list(kVocab)) {
    if (!entry.is_array() || entry.size() != 2) file.fail(kVocab, "a token and its score", entry);
    spec.tokens.push_back(file.as<std::string>(entry[0], kVocab));
    spec.scores.push_back(file.as<double>(entry[1], kVocab));
  }
  if (spec.tokens.empty()) file.fail(kVocab, "an array of tokens", file.array(model, "vocab"));
}

// Before there was a "type", a model without one was told by its fields.
void read_model(JsonTree& file, TokenizerSpec& spec) {
  const Json& model = file.object(file.root(), "model");
  const std::string type = file.get<std::string>(model, "type", model.contains("unk_id") ? "Unigram" : "BPE");
  if (type == "BPE")
    read_bpe(file, model, spec);
  else if (type == "Unigram")
    read_unigram(file, model, spec);
  else
    file.fail("model.type", "BPE or Unigram", type);
}

void read_added_tokens(const JsonTree& file, TokenizerSpec& spec) {
  spec.kinds.assign(spec.tokens.size(), TokenKind::kNormal);
  for (const Json& token : file.array(file.root(), "added_tokens")) {
    if (!token.is_object()) file.fail("added_tokens", "an object", token);
    AddedToken added;
    added.id = file.as<TokenId>(token.value("id", Json()), "added_tokens.id");
    added.content = file.get<std::string>(token, "content", "");
    added.special = file.get(token, "special", false);
    added.normalized = file.get(token, "normalized", false);
    added.lstrip = file.get(token, "lstrip", false);
    added.rstrip = file.get(token, "rstrip", false);
    added.single_word = file.get(token, "single_word", false);
    const auto id = static_cast<std::size_t>(added.id);
    const bool is_models_own = id < spec.tokens.size() && spec.tokens[id] == added.content;
    put(file, "added_tokens.id", spec.tokens, added.id, added.content);
    spec.kinds.resize(spec.tokens.size(), TokenKind::kNormal);
    if (!is_models_own) spec.kinds[id] = TokenKind::kControl;  // never made of text by the model
    spec.added_tokens.push_back(std::move(added));
  }
  if (spec.model == TokenModelKind::kUnigram) spec.scores.resize(spec.tokens.size());
}

void read_config(const JsonTree& file, bool has_template, TokenizerSpec& spec) {
  const auto named = [&](const char* key, TokenId& id) {
    const Json* value = JsonTree::find(file.root(), key);
    if (!value) return;
    const std::string text =
        value->is_object() ? file.get<std::string>(*value, "content", "") : file.as<std::string>(*value, key);
    const auto known = std::find(spec.tokens.begin(), spec.tokens.end(), text);
    if (known == spec.tokens.end()) file.fail(key, "a token of the vocabulary", text);
    id = static_cast<TokenId>(known - spec.tokens.begin());
  };
  named("bos_token", spec.bos_id);
  named("eos_token", spec.eos_id);
  named("pad_token", spec.pad_id);
  // What the template says counts; the configuration, where there is none.
  const auto adds = [&](const char* key, TokenId id, std::vector<TokenId>& list) {
    const bool add = file.get(file.root(), key, !list.empty());
    if (has_template) return;
    list.clear();
    if (add && id != kNoToken) list = {id};
  };
  adds("add_bos_token", spec.bos_id, spec.prefix_ids);
  adds("add_eos_token", spec.eos_id, spec.suffix_ids);
  const Json* source = JsonTree::find(file.root(), "chat_template");
  if (!source) return;
  if (!source->is_array()) {
    spec.chat_template = file.as<std::string>(*source, "chat_template");
    return;
  }
  for (const Json& choice : *source)
    if (choice.is_object() && file.get<std::string>(choice, "name", "") == "default")
      spec.chat_template = file.get<std::string>(choice, "template", "");
}

void read_generation_config(const JsonTree& file, TokenizerSpec& spec) {
  const Json ends = file.root().value("eos_token_id", Json());
  for (const Json& id : ends.is_array() ? ends : ends.is_null() ? Json::array() : Json::array({ends}))
    spec.end_of_generation_ids.push_back(file.as<TokenId>(id, "eos_token_id"));
}

std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

TokenizerSpec load_tokenizer(const std::filesystem::path& directory) {
  TokenizerSpec spec;
  bool has_template = false;
  const auto sentencepiece = directory / "tokenizer.model";
  if (std::filesystem::exists(directory / "tokenizer.json") || !std::filesystem::exists(sentencepiece)) {
    JsonTree file(directory / "tokenizer.json", true, {kVocab, kMerges});
    spec.source = file.file();
    read_model(file, spec);
    read_added_tokens(file, spec);
    read_normalizer(file, spec);
    read_pre_tokenizer(file, spec);
    read_decoder(file, spec);
    has_template = read_post_processor(file, spec);
    if (!spec.prefix_ids.empty()) spec.bos_id = spec.prefix_ids.front();
    if (!spec.suffix_ids.empty()) spec.eos_id = spec.suffix_ids.back();
  } else {
    spec = load_sentencepiece(sentencepiece);
  }
  read_config(JsonTree(directory / "tokenizer_config.json", false), has_template, spec);
  read_generation_config(JsonTree(directory / "generation_config.json", false), spec);
  if (auto source = read_file(directory / "chat_template.jinja")) spec.chat_template = *std::move(source);
  add_end_of_generation_ids(spec);
  return spec;
}

}  // namespace redline
