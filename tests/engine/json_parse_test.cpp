// JSON of model files: trees, lists, and what is refused.
#include "engine/json_parse.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/model_file_error.h"

namespace redline {
namespace {

using Json = nlohmann::json;

std::string refusal(const std::string& text, std::span<JsonList> lists = {}) {
  try {
    parse_json_object("f.json", text, 0, lists);
  } catch (const ModelFileError& error) {
    return error.what();
  }
  return "none";
}

TEST(JsonParse, MakesTheTreeThatTheLibraryMakes) {
  const std::string text =
      R"({"a": [1, -2, 3.5, true, null, "x\u00e9\n", {"b": {}, "c": [[], [[1]]]}], "d": {"e": {"f": 18446744073709551615}}, "": 1e-3})";
  EXPECT_EQ(parse_json_object("f", text), Json::parse(text));
}

TEST(JsonParse, HandsListsOverInOrderAndLeavesEmptyOnes) {
  const std::string text =
      R"({"model": {"type": "BPE", "vocab": {"z": 0, "a": 1, "m": {"n": [2]}}, "merges": ["a b", ["c", "d"], {}], "x": 7},
          "vocab": {"k": 1}, "list": [{"model": {"vocab": {"q": 1}}}]})";
  std::vector<JsonList> lists{{"model.vocab"}, {"model.merges"}, {"absent"}, {"model.x"}};
  const Json tree = parse_json_object("f", text, 0, lists);
  Json left = Json::parse(text);
  left["model"]["vocab"] = Json::object();
  left["model"]["merges"] = Json::array();
  EXPECT_EQ(tree, left) << "the same keys elsewhere stay, and so does what is neither object nor array";
  ASSERT_EQ(lists[0].entries.size(), 3);
  EXPECT_EQ(lists[0].entries[0], (std::pair<std::string, Json>("z", 0)));
  EXPECT_EQ(lists[0].entries[1], (std::pair<std::string, Json>("a", 1)));
  EXPECT_EQ(lists[0].entries[2], (std::pair<std::string, Json>("m", {{"n", {2}}})));
  ASSERT_EQ(lists[1].entries.size(), 3);
  EXPECT_EQ(lists[1].entries[0].second, "a b");
  EXPECT_EQ(lists[1].entries[1].second, Json({"c", "d"}));
  EXPECT_EQ(lists[1].entries[2].second, Json::object());
  EXPECT_TRUE(lists[2].entries.empty() && lists[3].entries.empty());
}

TEST(JsonParse, RefusesAKeyTwiceInTreesAndInLists) {
  for (const char* text : {R"({"a": 1, "a": 1})", R"({"x": [{"b": {}, "a": 1, "a": {}}]})"})
    EXPECT_NE(refusal(text).find("key \"a\""), std::string::npos) << refusal(text);
  std::vector<JsonList> lists{{"v"}};
  EXPECT_NE(refusal(R"({"v": {"p": 1, "q": 2, "p": 3}})", lists).find("key \"p\""), std::string::npos);
  EXPECT_NE(refusal(R"({"v": {"p": {"r": 1, "r": 2}}})", lists).find("key \"r\""), std::string::npos);
  EXPECT_NE(refusal(R"({"v": {"p": 1}, "v": {}})", lists).find("key \"v\""), std::string::npos);
  EXPECT_EQ(refusal(R"({"v": {"p": {"p": 1}}, "p": {"p": 2}})", lists), "none");
}

TEST(JsonParse, NamesWhatIsWrongAndWhere) {
  EXPECT_NE(refusal("{\"a\": 1,}").find("8"), std::string::npos) << refusal("{\"a\": 1,}");
  for (const char* text : {"", "{", "[1", "{\"a\"}", "{} x", "\"\xff\"", "nul"})
    EXPECT_NE(refusal(text).find("not JSON"), std::string::npos) << text << ": " << refusal(text);
  EXPECT_NE(refusal("{\"a\": 1e999}").find("1.8e308"), std::string::npos);
  EXPECT_NE(refusal("[1]").find("a JSON object"), std::string::npos);
  std::vector<JsonList> lists{{"a"}};
  for (const std::span<JsonList> given : {std::span<JsonList>(), std::span<JsonList>(lists)}) {
    const auto nested = [](int levels) {
      return "{\"a\": " + std::string(static_cast<std::size_t>(levels - 1), '[') +
             std::string(static_cast<std::size_t>(levels - 1), ']') + "}";
    };
    EXPECT_EQ(refusal(nested(32), given), "none");
    EXPECT_NE(refusal(nested(33), given).find("32 levels"), std::string::npos);
  }
}

}  // namespace
}  // namespace redline
