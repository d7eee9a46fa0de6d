#include "engine/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "engine/model_file_error.h"

namespace redline {
namespace {

using Json = nlohmann::json;

constexpr TokenId kMaxTokens = 1 << 24;

std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// One JSON file; its accessors throw ModelFileError naming file and key.
class JsonFile {
 public:
  JsonFile(const std::filesystem::path& path, bool required) : name_(path.string()) {
    const std::optional<std::string> text = read_file(path);
    if (!text && required) throw ModelFileError({.file = name_}, "cannot be read");
    if (!text) return;
    try {
      root = Json::parse(*text);
    } catch (const Json::parse_error& error) {
      throw ModelFileError({.file = name_, .offset = error.byte}, "not JSON");
    }
    if (!root.is_object()) fail("the file", "an object", root);
  }

  [[noreturn]] void fail(const std::string& key, const std::string& expected, const Json& found) const {
    std::string text = found.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 100) text = text.substr(0, 100) + "...";
    throw ModelFileError({.file = name_, .item = key}, expected, text);
  }

  // object[key] as a T; `otherwise` where it is absent or null.
  template <typename T>
  T get(const Json& object, const char* key, T otherwise) const {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return otherwise;
    return as<T>(*it, key);
  }

  template <typename T>
  T as(const Json& value, const char* key) const {
    if constexpr (std::is_same_v<T, bool>) {
      if (!value.is_boolean()) fail(key, "true or false", value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!value.is_string()) fail(key, "a string", value);
    } else {
      if (!value.is_number_integer() || value < 0 || value >= kMaxTokens)
        fail(key, "an id below " + std::to_string(kMaxTokens), value);
    }
    return value.get<T>();
  }

  // object[key], which must be an array (or an object); an empty one where it is absent or null.
  const Json& items(const Json& object, const char* key, bool (Json::*kind)() const noexcept) const {
    static const Json kEmpty = Json::array();
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return kEmpty;
    if (!((*it).*kind)()) fail(key, kind == &Json::is_array ? "an array" : "an object", *it);
    return *it;
  }
  const Json& array(const Json& object, const char* key) const { return items(object, key, &Json::is_array); }
  const Json& object(const Json& parent, const char* key) const {
    return items(parent, key, &Json::is_object);
  }

  // The steps of a pre-tokenizer, decoder or post-processor `value`, sequences opened.
  std::vector<const Json*> steps(const Json& value, const char* key, const char* list) const {
    if (value.is_null() || value.empty()) return {};
    if (!value.is_object()) fail(key, "an object", value);
    if (get<std::string>(value, "type", "") != "Sequence") return {&value};
    std::vector<const Json*> steps;
    for (const Json& step : array(value, list)) {
      if (!step.is_object()) fail(key, "an object", step);
      steps.push_back(&step);
    }
    return steps;
  }

  Json root = Json::object();

 private:
  std::string name_;
};

void put(std::vector<std::string>& tokens, TokenId id, const std::string& text) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens.size()) tokens.resize(index + 1);
  tokens[index] = text;
}

void read_model(const JsonFile& file, TokenizerSpec& spec) {
  const Json& model = file.object(file.root, "model");
  if (file.get<std::string>(model, "type", "BPE") != "BPE") file.fail("model.type", "\"BPE\"", model["type"]);
  if (file.get(model, "byte_fallback", false)) file.fail("model.byte_fallback", "false", true);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto text = file.get<std::string>(model, key, ""); !text.empty())
      file.fail(std::string("model.") + key, "nothing", text);
  spec.ignore_merges = file.get(model, "ignore_merges", false);
  for (const auto& [text, id] : file.object(model, "vocab").items())
    put(spec.tokens, file.as<TokenId>(id, "model.vocab"), text);
  if (spec.tokens.empty()) file.fail("model.vocab", "an object of tokens", model);
  if (const auto unk = file.get<std::string>(model, "unk_token", ""); !unk.empty())
    spec.unk_id = file.as<TokenId>(file.object(model, "vocab").value(unk, Json()), "model.unk_token");
  for (const Json& merge : file.array(model, "merges")) {
    const bool is_pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (!is_pair && !merge.is_string()) file.fail("model.merges", "two tokens", merge);
    spec.merges.push_back(is_pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>()
                                  : merge.get<std::string>());
  }
}

void read_added_tokens(const JsonFile& file, TokenizerSpec& spec) {
  for (const Json& token : file.array(file.root, "added_tokens")) {
    if (!token.is_object()) file.fail("added_tokens", "an object", token);
    AddedToken added;
    added.id = file.as<TokenId>(token.value("id", Json()), "added_tokens.id");
    added.content = file.get<std::string>(token, "content", "");
    added.special = file.get(token, "special", false);
    added.normalized = file.get(token, "normalized", false);
    added.lstrip = file.get(token, "lstrip", false);
    added.rstrip = file.get(token, "rstrip", false);
    added.single_word = file.get(token, "single_word", false);
    put(spec.tokens, added.id, added.content);
    spec.added_tokens.push_back(std::move(added));
  }
}

// A pattern that matches `text` itself.
std::string quoted(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c))) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

void read_pre_tokenizer(const JsonFile& file, TokenizerSpec& spec) {
  const Json& value = file.object(file.root, "pre_tokenizer");
  bool byte_level = false;
  for (const Json* step : file.steps(value, "pre_tokenizer", "pretokenizers")) {
    const auto type = file.get<std::string>(*step, "type", "");
    if (byte_level) file.fail("pre_tokenizer", "nothing after ByteLevel", *step);
    if (type == "Split") {
      const Json& pattern = file.object(*step, "pattern");
      if (file.get<std::string>(*step, "behavior", "") != "Isolated" || file.get(*step, "invert", false))
        file.fail("pre_tokenizer", "a Split with behavior \"Isolated\", not inverted", *step);
      const auto text = file.get<std::string>(pattern, "String", "");
      spec.split_patterns.push_back(text.empty() ? file.get<std::string>(pattern, "Regex", "")
                                                 : quoted(text));
    } else if (type == "Digits") {
      spec.split_patterns.emplace_back(file.get(*step, "individual_digits", false) ? R"(\p{N})"
                                                                                   : R"(\p{N}+)");
    } else if (type == "ByteLevel") {
      if (file.get(*step, "add_prefix_space", true)) file.fail("pre_tokenizer", "no prefix space", *step);
      if (file.get(*step, "use_regex", true)) {
        TokenizerSpec gpt2;
        set_pre_tokenizer(gpt2, "gpt-2");
        spec.split_patterns.push_back(gpt2.split_patterns.at(0));
      }
      byte_level = true;
    } else {
      file.fail("pre_tokenizer", "Split, Digits or ByteLevel", *step);
    }
  }
  if (!byte_level) file.fail("pre_tokenizer", "a ByteLevel step", value);
}

// Whether the single-text template puts one token before the text and one after.
bool read_template(const JsonFile& file, const Json& step, TokenizerSpec& spec) {
  bool before = true;
  spec.add_bos = spec.add_eos = false;
  for (const Json& part : file.array(step, "single")) {
    if (part.contains("Sequence")) {
      before = false;
      continue;
    }
    const auto name = file.get<std::string>(file.object(part, "SpecialToken"), "id", "");
    const Json& ids = file.array(file.object(file.object(step, "special_tokens"), name.c_str()), "ids");
    bool& add = before ? spec.add_bos : spec.add_eos;
    if (ids.size() != 1 || add) file.fail("post_processor", "one token before or after the text", step);
    add = true;
    (before ? spec.bos_id : spec.eos_id) = file.as<TokenId>(ids[0], "post_processor");
  }
  return true;
}

void read_config(const JsonFile& file, bool has_template, TokenizerSpec& spec) {
  std::unordered_map<std::string_view, TokenId> ids;
  for (std::size_t i = 0; i < spec.tokens.size(); ++i)
    ids.try_emplace(spec.tokens[i], static_cast<TokenId>(i));
  const auto named = [&](const char* key, TokenId& id) {
    const auto it = file.root.find(key);
    if (it == file.root.end() || it->is_null()) return;
    const std::string text =
        it->is_object() ? file.get<std::string>(*it, "content", "") : file.as<std::string>(*it, key);
    const auto known = ids.find(text);
    if (known == ids.end()) file.fail(key, "a token of tokenizer.json", text);
    id = known->second;
  };
  if (!(has_template && spec.add_bos)) named("bos_token", spec.bos_id);
  if (!(has_template && spec.add_eos)) named("eos_token", spec.eos_id);
  named("pad_token", spec.pad_id);
  if (!has_template) {
    spec.add_bos = file.get(file.root, "add_bos_token", false);
    spec.add_eos = file.get(file.root, "add_eos_token", false);
  }
  const auto source = file.root.find("chat_template");
  if (source == file.root.end() || source->is_null()) return;
  if (!source->is_array()) {
    spec.chat_template = file.as<std::string>(*source, "chat_template");
    return;
  }
  for (const Json& choice : *source)
    if (choice.is_object() && file.get<std::string>(choice, "name", "") == "default")
      spec.chat_template = file.get<std::string>(choice, "template", "");
}

void read_generation_config(const JsonFile& file, TokenizerSpec& spec) {
  const Json ends = file.root.value("eos_token_id", Json());
  for (const Json& id : ends.is_array() ? ends : ends.is_null() ? Json::array() : Json::array({ends}))
    spec.end_of_generation_ids.push_back(file.as<TokenId>(id, "eos_token_id"));
}

}  // namespace

TokenizerSpec load_tokenizer_json(const std::filesystem::path& directory) {
  const JsonFile file(directory / "tokenizer.json", true);
  TokenizerSpec spec;
  spec.source = (directory / "tokenizer.json").string();
  read_model(file, spec);
  read_added_tokens(file, spec);
  read_pre_tokenizer(file, spec);
  for (const Json* step : file.steps(file.object(file.root, "normalizer"), "normalizer", "normalizers"))
    file.fail("normalizer", "none", *step);
  for (const Json* step : file.steps(file.object(file.root, "decoder"), "decoder", "decoders"))
    if (file.get<std::string>(*step, "type", "") != "ByteLevel") file.fail("decoder", "ByteLevel", *step);
  bool has_template = false;
  for (const Json* step :
       file.steps(file.object(file.root, "post_processor"), "post_processor", "processors")) {
    const auto type = file.get<std::string>(*step, "type", "");
    if (type == "TemplateProcessing")
      has_template = read_template(file, *step, spec);
    else if (type != "ByteLevel")
      file.fail("post_processor", "TemplateProcessing or ByteLevel", *step);
  }
  read_config(JsonFile(directory / "tokenizer_config.json", false), has_template, spec);
  read_generation_config(JsonFile(directory / "generation_config.json", false), spec);
  if (auto source = read_file(directory / "chat_template.jinja")) spec.chat_template = *std::move(source);
  add_end_of_generation_ids(spec);
  return spec;
}

}  // namespace redline
