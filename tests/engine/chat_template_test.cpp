#include "engine/chat_template/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/tokenizer/tokenizer_gguf.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

const Json& goldens() {
  static const Json file =
      Json::parse(std::ifstream(std::string(REDLINE_SOURCE_DIR) + "/tests/goldens/templates.json"));
  return file;
}

ChatTemplate::Limits golden_limits() {
  ChatTemplate::Limits limits;
  std::tm time{};
  EXPECT_NE(strptime(goldens().at("now").get<std::string>().c_str(), "%Y-%m-%d %H:%M:%S", &time), nullptr);
  time.tm_isdst = -1;
  limits.now = std::chrono::system_clock::from_time_t(std::mktime(&time));
  return limits;
}

std::string source_of(const Json& golden) {
  const Json& source = golden.at("template");
  return source.is_string() ? source : goldens().at("templates").at(source.at("named").get<std::string>());
}

TEST(ChatTemplate, RendersWhatJinjaRendersAndFailsWhereItFails) {
  ASSERT_GT(goldens().at("cases").size(), 300u);
  const ChatTemplate::Limits limits = golden_limits();
  for (const Json& golden : goldens().at("cases")) {
    const Json& variables = golden.contains("variables") ? golden.at("variables") : goldens().at("data");
    const std::string source = source_of(golden);
    SCOPED_TRACE(golden.at("name").get<std::string>() + ": " + source.substr(0, 300));
    try {
      const std::string text = ChatTemplate(source).render(variables, limits);
      if (golden.contains("text"))
        EXPECT_EQ(text, golden.at("text").get<std::string>());
      else
        ADD_FAILURE() << "rendered '" << text << "', jinja2 says " << golden.at("error");
    } catch (const TemplateError& error) {
      EXPECT_TRUE(golden.contains("error")) << error.what();
      const Json line = golden.value("line", Json());
      if (line.is_number()) {
        EXPECT_EQ(error.line(), line) << error.what();
      }
    }
  }
}

TEST(ChatTemplate, TheRealModelsTemplateIsTheOneInTheGoldens) {
  EXPECT_EQ(gguf_tokenizer_spec(GgufFile(real_model_path())).chat_template,
            goldens().at("templates").at("real").get<std::string>());
}

TEST(ChatTemplate, PassesWhatHuggingFacePasses) {
  const ChatTemplate source(
      "{{ bos_token }}{{ messages[0].content }}{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ x }}");
  const Json messages = {{{"role", "user"}, {"content", "hi"}}};
  EXPECT_EQ(source.render(chat_variables(messages, nullptr, {{"bos_token", "<s>"}}, true, {{"x", 1}})),
            "<s>hiNoneNoneTrue1");
  EXPECT_EQ(source.render(chat_variables(messages, Json::array({1}), {}, false,
                                         {{"bos_token", "B"}, {"documents", "d"}})),
            "Bhi[1]dFalse");
}

std::string error_of(const std::string& source, const Json& variables = Json::object(),
                     const ChatTemplate::Limits& limits = {}) {
  try {
    return "rendered: " + ChatTemplate(source).render(variables, limits).substr(0, 100);
  } catch (const TemplateError& error) {
    return error.what();
  }
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  EXPECT_EQ(error_of("a\n{{ x.y }}"), "line 2: 'x' is undefined");
  EXPECT_EQ(error_of("{{ m.y.z }}", {{"m", Json::object()}}), "line 1: 'dict object' has no attribute 'y'");
  EXPECT_EQ(error_of("{% if true %}\n\n{{ raise_exception('no') }}{% endif %}"), "line 3: no");
  EXPECT_EQ(error_of("\n\n\n{% nope %}"), "line 4: unknown tag 'nope'");
  EXPECT_EQ(error_of("{{ 1 |\nnope }}"), "line 2: no filter named 'nope'");
  EXPECT_EQ(error_of("{% for x in y %}\n\n"), "line 2: expected 'endfor', found the end of the template");
}

TEST(ChatTemplate, EndlessWorkEndsAtTheStepLimit) {
  EXPECT_EQ(
      error_of(
          "{% for a in range(99999) %}{% for b in range(100) %}{% set x = a * b %}{% endfor %}{% endfor %}"),
      "line 1: the template takes too many steps");
  EXPECT_EQ(
      error_of("{% set l = range(60000) | list %}{% for a in l %}{% if l == l[:] %}{% endif %}{% endfor %}")
          .find("line 1: the template"),
      0u);
}

TEST(ChatTemplate, EndlessTextEndsAtTheByteLimit) {
  const std::string message = "line 1: the template makes too much text";
  ChatTemplate::Limits limits;
  limits.max_bytes = 1 << 20;
  const auto error_of = [&](const char* source) { return redline::error_of(source, Json::object(), limits); };
  EXPECT_EQ(error_of("{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ "
                     "ns.x %}{% endfor %}"),
            message);
  EXPECT_EQ(error_of("{{ 'x' * 10000000000 }}"), message);
  EXPECT_EQ(error_of("{{ [1] * 9000000000000000000 }}"), message);
  EXPECT_EQ(error_of("{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% "
                     "endfor %}{{ ns.x }}"),
            message);
  EXPECT_EQ(error_of("{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% "
                     "endfor %}{{ ns.x | tojson }}"),
            message);
  EXPECT_EQ(error_of("{{ [1] | tojson(indent=10000000000) }}"), message);
  EXPECT_EQ(error_of("{{ 'a\\nb' | indent(10000000000) }}"), message);
  EXPECT_EQ(error_of("{{ ('a' * 100000).replace('a', 'b' * 100000) }}"), message);
  EXPECT_EQ(error_of("{{ ('b' * 100000).join('a' * 100000) }}"), message);
  EXPECT_EQ(error_of("{{ ('a' * 100000) | join('b' * 100000) }}"), message);
  EXPECT_EQ(error_of("{{ ('a' * 100000) | replace('', 'b' * 100000) }}"), message);
  EXPECT_EQ(error_of("{{ '{:>9000000000000000000}'.format(1) }}"), message);
  EXPECT_EQ(error_of("{{ '%9000000000000000000d' % 1 }}"), message);
  EXPECT_EQ(error_of("{{ 'a'.center(9000000000000000000) ~ '1'.zfill(9000000000000000000) }}"), message);
  EXPECT_EQ(error_of("{{ '%.900000000f' % 1.5 }}"), "line 1: a format's precision is too large");
  EXPECT_EQ(error_of("{{ ('&' * 900000) | e }}"), message);
  EXPECT_EQ(error_of("{{ range(10 ** 9) }}"),
            "line 1: Range too big. The sandbox blocks ranges larger than 100000.");
  EXPECT_EQ(error_of("{{ range(0 - 10 ** 18, 10 ** 18) }}"),
            "line 1: Range too big. The sandbox blocks ranges larger than 100000.");
  limits.max_bytes = 10;
  EXPECT_EQ(error_of("12345678901"), message);
}

std::string repeated(const char* text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(ChatTemplate, DeepNestingIsAnErrorNotACrash) {
  const std::string deep = "the template nests too deeply";
  EXPECT_NE(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").find(deep), std::string::npos);
  using Brackets = std::pair<const char*, const char*>;
  for (const auto& [open, close] : {Brackets{"(", ")"},
                                    {"[", "]"},
                                    {"-", ""},
                                    {"not ", ""},
                                    {"{'a':", "}"},
                                    {"f(", ")"},
                                    {"x[", "]"},
                                    {"x|f(", ")"},
                                    {"1 if 1 else ", ""}})
    EXPECT_NE(error_of("{{ " + repeated(open, 100'000) + "1" + repeated(close, 100'000) + " }}").find(deep),
              std::string::npos)
        << open;
  EXPECT_NE(error_of(repeated("{% if x %}", 100'000)).find(deep), std::string::npos);
  EXPECT_NE(error_of(repeated("{% for x in y %}", 100'000)).find(deep), std::string::npos);
  for (const char* link : {" + 1", ".x", "[0]", "|abs", " or 1", "()"})
    EXPECT_NE(error_of("{{ 1" + repeated(link, 100'000) + " }}").find("the expression is too long"),
              std::string::npos)
        << link;
  EXPECT_EQ(error_of("{{ 1" + repeated(" ~ 1", 100'000) + " }}").find("rendered: 1111"), 0u);
  for (const char* tag : {"{% macro m() %}", "{% call f() %}", "{% filter upper %}", "{% with %}",
                          "{% set x %}", "{% generation %}"})
    EXPECT_NE(error_of(repeated(tag, 100'000)).find(deep), std::string::npos) << tag;
  EXPECT_NE(
      error_of("{% macro a() %}\n{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}")
          .find(deep),
      std::string::npos);
  EXPECT_NE(error_of("{{ " + repeated("(", 1'000'000) + repeated(")", 1'000'000) + " }}").find(deep),
            std::string::npos);
  EXPECT_NE(
      error_of("{% set " + repeated("(", 1'000'000) + "x" + repeated(")", 1'000'000) + " = 1 %}").find(deep),
      std::string::npos);
  EXPECT_NE(
      error_of("{% set ns = namespace(x=1) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}")
          .find("values nest"),
      std::string::npos);
  EXPECT_NE(error_of("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}").find("the template"),
            std::string::npos);
  Json value = 1;
  for (int i = 0; i < 1'000'000; ++i) value = Json::array({std::move(value)});
  Json deep_variables;  // made without a copy, which would recurse
  deep_variables["x"] = std::move(value);
  EXPECT_NE(error_of("{{ x }}", deep_variables).find("values nest"), std::string::npos);
}

TEST(ChatTemplate, RandomSourcesNeverCrash) {
  // Pieces that templates are made of, in any order: most fail to parse, some run.
  const std::vector<std::string> pieces = {"{{",
                                           "}}",
                                           "{%",
                                           "%}",
                                           "{#",
                                           "#}",
                                           "-",
                                           "+",
                                           " ",
                                           "\n",
                                           "if",
                                           "for",
                                           "in",
                                           "set",
                                           "macro",
                                           "endif",
                                           "endfor",
                                           "endset",
                                           "endmacro",
                                           "else",
                                           "elif",
                                           "x",
                                           "y",
                                           "messages",
                                           "loop",
                                           "namespace",
                                           "ns",
                                           "(",
                                           ")",
                                           "[",
                                           "]",
                                           "{",
                                           "}",
                                           ":",
                                           ",",
                                           ".",
                                           "|",
                                           "=",
                                           "==",
                                           "<",
                                           "~",
                                           "*",
                                           "**",
                                           "//",
                                           "%",
                                           "'a'",
                                           "\"b",
                                           "1",
                                           "2.5",
                                           "is",
                                           "not",
                                           "defined",
                                           "join",
                                           "map",
                                           "tojson",
                                           "range",
                                           "filter",
                                           "call",
                                           "raw",
                                           "endraw",
                                           "with",
                                           "\\",
                                           "é",
                                           "\xff",
                                           "{{ x }}",
                                           "{% set x = 1 %}",
                                           "{% for x in messages %}",
                                           "{% endfor %}",
                                           "{% if x %}",
                                           "{% endif %}",
                                           "{% macro x(y) %}",
                                           "{% endmacro %}",
                                           "| sort",
                                           "| list",
                                           ".items()",
                                           "[::-1]",
                                           "[0]",
                                           ".split('a')",
                                           "99999999999999999999"};
  const Json variables = {
      {"x", "text"}, {"y", {3, 1, 2}}, {"messages", {{{"role", "user"}, {"content", "\xc3\xa9"}}}}};
  ChatTemplate::Limits limits;
  limits.max_steps = 10'000;
  limits.max_bytes = 1 << 20;
  std::mt19937 rng(29);
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string source;
    for (std::size_t n = rng() % 25; n > 0; --n) source += pieces[rng() % pieces.size()];
    try {
      (void)ChatTemplate(source).render(variables, limits);
    } catch (const TemplateError&) {
    }
  }
}

TEST(ChatTemplate, MutatedProgramsNeverCrash) {
  std::mt19937 rng(31);
  ChatTemplate::Limits limits;
  limits.max_steps = 100'000;
  limits.max_bytes = 1 << 20;
  const Json& cases = goldens().at("cases");
  for (int trial = 0; trial < 4'000; ++trial) {
    const Json& golden = cases[rng() % cases.size()];
    std::string source = source_of(golden);
    const std::string other = source_of(cases[rng() % cases.size()]);
    for (int edits = 1 + static_cast<int>(rng() % 3); edits > 0 && !source.empty(); --edits) {
      const std::size_t at = rng() % source.size();
      if (rng() % 2)
        source.erase(at, 1 + rng() % 8);
      else
        source.insert(at, other, other.empty() ? 0 : rng() % other.size(), rng() % 12);
    }
    try {
      (void)ChatTemplate(source).render(
          golden.contains("variables") ? golden.at("variables") : goldens().at("data"), limits);
    } catch (const TemplateError&) {
    }
  }
}

}  // namespace
}  // namespace redline
