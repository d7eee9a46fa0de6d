#include "engine/tokenizer/json_tree.h"

#include <utility>

#include "engine/json_parse.h"
#include "engine/mapped_file.h"
#include "engine/model_file_error.h"

namespace redline {

using Json = nlohmann::json;

JsonTree::JsonTree(const std::filesystem::path& path, bool required, std::initializer_list<const char*> lists)
    : file_(path.string()) {
  for (const char* list : lists) lists_.push_back({list});
  if (!required && !std::filesystem::exists(path)) return;
  if (!std::filesystem::exists(path)) throw ModelFileError({.file = file_}, "cannot be read");
  const MappedFile file(path);
  file_bytes_ = file.bytes().size();
  root_ = parse_json_object(file_, {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                            0, lists_);
}

JsonTree::List JsonTree::take_list(const char* path) {
  for (JsonList& list : lists_)
    if (list.path == path) return std::exchange(list.entries, {});
  return {};
}

void JsonTree::fail(const std::string& key, const std::string& expected, const Json& found) const {
  std::string text = found.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 100) text = text.substr(0, 100) + "...";
  throw ModelFileError({.file = file_, .item = key}, expected, text);
}

const Json& JsonTree::array(const Json& object, const char* key) const {
  static const Json kEmpty = Json::array();
  const Json* value = find(object, key);
  if (value && !value->is_array()) fail(key, "an array", *value);
  return value ? *value : kEmpty;
}

const Json& JsonTree::object(const Json& parent, const char* key) const {
  static const Json kEmpty = Json::object();
  const Json* value = find(parent, key);
  if (value && !value->is_object()) fail(key, "an object", *value);
  return value ? *value : kEmpty;
}

std::vector<const Json*> JsonTree::steps(const char* key, const char* list) const {
  std::vector<const Json*> steps;
  if (const Json& value = object(root_, key); !value.empty()) open(value, key, list, steps);
  return steps;
}

void JsonTree::open(const Json& step, const char* key, const char* list,
                    std::vector<const Json*>& steps) const {
  if (!step.is_object()) fail(key, "an object", step);
  if (type(step) != "Sequence") return steps.push_back(&step);
  for (const Json& inner : array(step, list)) open(inner, key, list, steps);
}

}  // namespace redline
