#include "engine/json_parse.h"

#include <algorithm>
#include <functional>
#include <set>

#include "engine/file_tensor.h"
#include "engine/model_file_error.h"

namespace redline {

using Json = nlohmann::json;

namespace {

constexpr std::size_t kMaxDepth = 32;

// Throws for the first key that an object of `text`, which parses, holds twice.
[[noreturn]] void report_repeated_key(const std::string& file, std::string_view text) {
  std::vector<std::set<std::string, std::less<>>> keys;  // of each object that is open
  [[maybe_unused]] const Json again = Json::parse(text, [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key)
      if (auto key = parsed.get<std::string>(); !keys.back().insert(key).second)
        throw ModelFileError({file, "key " + printable(key)}, "each key once", "it twice");
    return true;
  });
  throw ModelFileError({file}, "each key once", "one twice");
}

/// Makes the tree and fills the lists as the parser goes through the text.
class TreeBuilder final : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(const std::string& file, std::uint64_t offset, std::span<JsonList> lists)
      : file_(file), offset_(offset), lists_(lists) {}

  Json take_root() { return std::move(root_); }
  bool repeats_key() const { return repeats_key_; }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // text has none
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    Open& object = open_.back();
    object.key = std::move(key);
    if (object.list) {
      list_keys_.push_back(std::hash<std::string>()(object.key));
    } else {
      const auto [member, is_new] = object.value->emplace(object.key, nullptr);
      repeats_key_ |= !is_new;
      object.member = &*member;
    }
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    if (!dynamic_cast<const Json::out_of_range*>(&error))
      throw ModelFileError({file_, {}, offset_ + (byte > 0 ? byte - 1 : 0)}, "this is not JSON");
    const std::string_view message = error.what();  // a number that a double does not hold
    const std::string_view number = message.substr(std::min(message.find('\''), message.size()));
    throw ModelFileError({file_}, "numbers up to 1.8e308", printable(number));
  }

 private:
  /// An object or array that has not ended.
  struct Open {
    Json* value;
    JsonList* list;          // that takes its entries; else null
    Json* member = nullptr;  // of an object: the key's
    std::string key = {};    // of an object: the last
  };

  template <typename Value>
  bool put(Value&& value) {
    add(Json(std::forward<Value>(value)));
    return true;
  }

  Json* add(Json&& value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Open& parent = open_.back();
    if (parent.list)
      return &parent.list->entries.emplace_back(std::move(parent.key), std::move(value)).second;
    if (parent.value->is_array()) return &parent.value->emplace_back(std::move(value));
    return &(*parent.member = std::move(value));
  }

  bool open(Json&& empty) {
    if (open_.size() == kMaxDepth) throw ModelFileError({file_}, "nesting of up to 32 levels", "more");
    JsonList* const list = find_list();
    if (list) list->entries.clear(), list_keys_.clear();
    open_.push_back({add(std::move(empty)), list});
    return true;
  }

  bool close() {
    if (open_.back().list && open_.back().value->is_object()) {
      std::sort(list_keys_.begin(), list_keys_.end());
      repeats_key_ |= std::adjacent_find(list_keys_.begin(), list_keys_.end()) != list_keys_.end();
    }
    open_.pop_back();
    return true;
  }

  // Of what is about to open. Lists do not lie within each other, nor within arrays.
  JsonList* find_list() const {
    if (lists_.empty() || open_.empty()) return nullptr;
    for (const Open& each : open_)
      if (each.list || !each.value->is_object()) return nullptr;
    std::string path;
    for (const Open& each : open_) (path += path.empty() ? "" : ".") += each.key;
    const auto found =
        std::find_if(lists_.begin(), lists_.end(), [&](const JsonList& list) { return list.path == path; });
    return found == lists_.end() ? nullptr : &*found;
  }

  const std::string& file_;
  std::uint64_t offset_;
  std::span<JsonList> lists_;
  Json root_;
  std::vector<Open> open_;
  std::vector<std::size_t> list_keys_;  // hashes: equal ones are looked at again
  bool repeats_key_ = false;
};

}  // namespace

Json parse_json_object(const std::string& file, std::string_view text, std::uint64_t offset,
                       std::span<JsonList> lists) {
  TreeBuilder builder(file, offset, lists);
  Json::sax_parse(text, &builder);
  if (builder.repeats_key()) report_repeated_key(file, text);
  Json json = builder.take_root();
  if (json.is_object()) return json;
  throw ModelFileError({file, {}, offset}, "a JSON object", json.type_name());
}

}  // namespace redline
