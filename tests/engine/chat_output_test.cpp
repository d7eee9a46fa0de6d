// Text into content, reasoning and tool calls, in every form, however it is cut.
#include "engine/chat_output/chat_output.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace redline {
namespace {

using Json = nlohmann::json;

struct Whole {
  std::string reasoning, content;
  std::vector<ChatDelta::Call> calls;

  void add(const ChatDelta& delta) {
    reasoning += delta.reasoning;
    content += delta.content;
    for (const ChatDelta::Call& call : delta.calls) {
      if (!call.name.empty()) {
        EXPECT_EQ(call.index, std::ssize(calls)) << "a call's name comes first";
        calls.push_back({call.index, call.name, {}});
      }
      ASSERT_LT(call.index, std::ssize(calls));
      calls[static_cast<std::size_t>(call.index)].arguments += call.arguments;
    }
  }
  std::string text() const {
    std::string all = "reasoning: " + reasoning + "\ncontent: " + content;
    for (const auto& call : calls) all += "\ncall: " + call.name + " " + call.arguments;
    return all;
  }
};

ChatOutputOptions options(const char* form, bool reasoning = false) {
  ChatOutputOptions options;
  options.calls = find_tool_call_form(form, "");
  if (reasoning) options.reasoning = find_reasoning_form("think", "");
  options.tools = {"f", "g", "get_weather"};
  return options;
}

Whole parse(const ChatOutputOptions& options, const std::vector<std::string>& pieces) {
  ChatOutput output(options);
  Whole whole;
  for (const std::string& piece : pieces) whole.add(output.feed(piece));
  whole.add(output.finish());
  return whole;
}
Whole parse(const ChatOutputOptions& options, const std::string& text) {
  return parse(options, std::vector{text});
}

struct Case {
  const char *form, *text;
};
// Each says "get_weather of Paris, then f of 1", and no more.
const Case kTwoCalls[] = {
    {"hermes",
     "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n"
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"},
    {"hermes",
     "<tool_call>{\"arguments\": {\"city\": \"Paris\"}, \"name\": \"get_weather\"}"
     "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>"},
    {"llama3",
     "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}; "
     "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}"},
    {"llama3",
     "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}};"
     "{\"name\": \"f\", \"parameters\": {\"a\": 1}}"},
    {"pythonic", "[get_weather(city='Paris'), f(a=1)]"},
    {"pythonic", "<|python_start|>[get_weather(city=\"Paris\"), f(a=1,)]<|python_end|>"},
    {"mistral",
     "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"abcdefghi\"}, "
     "{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"},
    {"mistral",
     "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{\"a\": 1}"},
    {"mistral", "[TOOL_CALLS] get_weather {\"city\": \"Paris\"}[TOOL_CALLS]f{\"a\": 1}"},
    {"granite",
     "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, "
     "{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"},
    {"granite",
     "<tool_call> [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}},"
     "{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"},
    {"phi4",
     "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, "
     "{\"name\": \"f\", \"arguments\": {\"a\": 1}}]<|/tool_call|>"},
    {"phi4",
     "functools[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, "
     "{\"name\": \"f\", \"arguments\": {\"a\": 1}}]"},
    {"smollm3",
     "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}</tool_call>\n"
     "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>\n"},
    {"smollm3", "<code>\nget_weather(city=\"Paris\")\nf(a=1)\n</code>"},
    {"lfm2", "<|tool_call_start|>[get_weather(city=\"Paris\"), f(a=1)]<|tool_call_end|>"},
    {"json",
     "[{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}, {\"name\": \"f\", \"parameters\": "
     "{\"a\": 1}}]"},
};

// Texts in which a form finds no call, whatever comes to its mind.
const Case kNoCalls[] = {
    {"hermes", "<tool_call>not JSON</tool_call>"},
    {"hermes", "<tool_call>{\"nam\": \"f\", \"arguments\": {}}</tool_call>"},
    {"hermes", "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>"},
    {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call> and so on\n"},
    {"hermes", "a < b, <tool, <tool_call <<tool_cal> </tool_call> {\"name\": \"f\", \"arguments\": {}}"},
    {"hermes", "<tool_call>{\"name\": \"f\""},
    {"hermes", "  text with space around \n\n"},
    {"llama3", "{\"name\": \"Bob\", \"parameters\": {\"a\": 1}}"},
    {"llama3", "{\"result\": [1, 2, {\"name\": \"f\"}]}"},
    {"llama3", "It is {\"name\": \"f\", \"parameters\": {}}"},
    {"llama3", "<|python_tag|>print(1)"},
    {"pythonic", "[1] says so, [f(a=1)]"},
    {"pythonic", "[h(a=1)]"},
    {"pythonic", "[f(1)]"},
    {"pythonic", "[f(a=b)]"},
    {"pythonic", "[f(a=\"open"},
    {"mistral", "[TOOL_CALLS][]"},
    {"mistral", "[TOOL_CALLS]f is what I would call"},
    {"mistral", "[TOOL_CALLS]f[ARGS]1"},
    {"mistral", "[TOOL_CALLSf[ARGS]{}"},
    {"granite", "<|tool_call|>{\"name\": }"},
    {"phi4", "use functools.partial"},
    {"smollm3", "<code>\nfor i in range(3): f(a=i)\n</code>"},
    {"smollm3", "<code>f(a=1)\nx = 5</code>"},
    {"json", "[1, 2]"},
};

TEST(ChatOutput, ReadsTheCallsOfEveryForm) {
  for (const auto& [form, text] : kTwoCalls)
    for (const bool whole : {false, true}) {
      auto how = options(form);
      how.whole_calls = whole;
      const Whole found = parse(how, text);
      ASSERT_EQ(found.calls.size(), 2) << form << " " << text << "\n" << found.text();
      EXPECT_EQ(found.calls[0].name, "get_weather");
      EXPECT_EQ(Json::parse(found.calls[0].arguments), Json({{"city", "Paris"}})) << text;
      EXPECT_EQ(found.calls[1].name, "f");
      EXPECT_EQ(Json::parse(found.calls[1].arguments), Json({{"a", 1}})) << text;
      EXPECT_EQ(found.content, "") << form << " " << text;
    }
}

TEST(ChatOutput, GivesBackAllTextThatIsNoCall) {
  for (const auto& [form, text] : kNoCalls)
    for (const bool whole : {false, true}) {
      auto how = options(form);
      how.whole_calls = whole;
      const Whole found = parse(how, text);
      EXPECT_EQ(found.calls.size(), 0) << form << " " << text << "\n" << found.text();
      EXPECT_EQ(found.content, text) << form;
    }
}

TEST(ChatOutput, TellsNameAndArgumentsAsTheyGrow) {
  ChatOutput output(options("hermes"));
  ChatDelta delta = output.feed("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"long");
  ASSERT_EQ(delta.calls.size(), 1);
  EXPECT_EQ(delta.calls[0].name, "f");
  EXPECT_EQ(delta.calls[0].arguments, "{\"a\": \"long");
  delta = output.feed(" text");
  ASSERT_EQ(delta.calls.size(), 1);
  EXPECT_EQ(delta.calls[0].name, "");
  EXPECT_EQ(delta.calls[0].arguments, " text");
  delta = output.feed("\"}, \"more\": 1}</tool_call>");
  EXPECT_EQ(delta.calls[0].arguments, "\"}");
  EXPECT_EQ(output.num_calls(), 1);
  EXPECT_TRUE(output.finish().empty());
}

TEST(ChatOutput, KeepsTheRestOfACallThatBreaksAsContent) {
  const std::string text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": oops}}</tool_call>";
  auto how = options("hermes");
  EXPECT_EQ(parse(how, text).calls.at(0).arguments, "{\"a\": ");
  EXPECT_EQ(parse(how, text).content, "oops}}</tool_call>");
  how.whole_calls = true;
  EXPECT_EQ(parse(how, text).calls.size(), 0);
  EXPECT_EQ(parse(how, text).content, text);
}

TEST(ChatOutput, KeepsContentBesideCallsWithoutTheSpaceBetween) {
  const std::string call = "<tool_call>{\"name\": \"f\"}</tool_call>";
  const auto how = options("hermes");
  EXPECT_EQ(parse(how, "Let me see.\n" + call + "\n").content, "Let me see.");
  EXPECT_EQ(parse(how, "One\n" + call + " two ").content, "One\n two ");
  EXPECT_EQ(parse(how, "\n" + call + "\nafter").content, "after");
  EXPECT_EQ(parse(how, call).calls.at(0).arguments, "{}");
}

TEST(ChatOutput, PutsReasoningApart) {
  auto how = options("hermes", true);
  const auto expect = [&](const char* text, const char* reasoning, const char* content) {
    const Whole found = parse(how, text);
    EXPECT_EQ(found.reasoning, reasoning) << text;
    EXPECT_EQ(found.content, content) << text;
  };
  expect("<think>\nSo, a <b>.\n</think>\n\nYes. ", "So, a <b>.", "Yes. ");
  expect("\n<think></think>Yes", "", "Yes");
  expect("No <think>x</think>", "", "No <think>x</think>");
  expect("<thin", "", "<thin");
  expect("<think>cut off <tool_call>{\"name\": \"f\"}", "cut off <tool_call>{\"name\": \"f\"}", "");
  how.reasoning_open = true;
  expect("So.\n</think>\nYes", "So.", "Yes");
  expect("So </thin", "So </thin", "");
  const Whole found = parse(how, "so</think>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>");
  EXPECT_EQ(found.reasoning + found.content, "so");
  EXPECT_EQ(found.calls.size(), 1);
}

TEST(ChatOutput, TakesTheFirstCallWhereOneIsAllowed) {
  for (const auto& [form, text] : kTwoCalls) {
    auto how = options(form);
    how.one_call = true;
    const Whole found = parse(how, text);
    ASSERT_EQ(found.calls.size(), 1) << text;
    EXPECT_EQ(found.calls[0].name, "get_weather");
    EXPECT_EQ(found.content, "");
  }
}

TEST(ChatOutput, WritesPythonsLiteralsAsJson) {
  std::string json;
  ASSERT_TRUE(
      python_arguments("f(a=True, b=None, c=[1, -2.5, 'it\\'s'], d={'k': (1,), 2: \"\\u00e9\\n\"}, e=.5, "
                       "f=123456789012345678901, g='\"')",
                       json));
  EXPECT_EQ(
      Json::parse(json),
      Json::parse(R"({"a": true, "b": null, "c": [1, -2.5, "it's"], "d": {"k": [1], "2": "é\n"}, "e": 0.5,
                            "f": 123456789012345678901, "g": "\""})"));
  for (const char* text : {"f(a=)", "f(a)", "f(a=1", "f(a=1))", "f(a=1 b=2)", "f(a='\\ud800')", "f(a=1e)",
                           "f(a=[1,,2])", "f(=1)", "f(a={1})", "f(a='x)"}) {
    std::string other;
    EXPECT_FALSE(python_arguments(text, other)) << text;
  }
}

TEST(ChatOutput, DoesNotDependOnHowTheTextIsCut) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  std::vector<std::string> texts;
  for (const auto& each : kTwoCalls) texts.emplace_back(each.text);
  for (const auto& each : kNoCalls) texts.emplace_back(each.text);
  for (const char* each : {"<think>", "</think>", " ", "\n", "héé", "<", "{", "[", "]}"})
    texts.emplace_back(each);
  for (int round = 0; round < 4000; ++round) {
    std::string text;
    for (std::size_t i = below(4) + 1; i > 0; --i) {
      std::string part = texts[below(texts.size())];
      if (below(3) == 0) part = part.substr(below(part.size() + 1));
      if (below(3) == 0) part.resize(below(part.size() + 1));
      text += part;
    }
    const auto forms = tool_call_forms();
    auto how = options(std::string(forms[below(forms.size())].name).c_str(), below(2) == 0);
    how.reasoning_open = how.reasoning && below(2) == 0;
    how.whole_calls = below(2) == 0;
    how.one_call = below(4) == 0;
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, below(below(2) == 0 ? 2 : 12) + 1));
      at += pieces.back().size();
    }
    ASSERT_EQ(parse(how, pieces).text(), parse(how, text).text()) << text;
  }
}

TEST(ChatOutput, LosesNothingButSpaceWhereThereAreNoCalls) {
  const auto seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string letters = "{}[]<>\"':,;()=|/ \nabfg1tool_call";
  for (const ToolCallForm& form : tool_call_forms())
    for (int round = 0; round < 2000; ++round) {
      std::string text;
      if (round % 2) text = form.openers[static_cast<std::size_t>(round / 2) % form.openers.size()].marker;
      for (auto i = random() % 40; i > 0; --i) text += letters[random() % letters.size()];
      const Whole found = parse(options(std::string(form.name).c_str()), text);
      ASSERT_TRUE(!found.calls.empty() || found.content == text) << form.name << "\n"
                                                                 << text << "\n"
                                                                 << found.content;
    }
}

TEST(ChatForm, IsFoundByWhatATemplateHolds) {
  const auto calls = [](const char* text) {
    const auto* form = find_tool_call_form("auto", text);
    return form ? form->name : "none";
  };
  EXPECT_EQ(calls("... within <tool_call></tool_call> XML tags:\\n<tool_call>\\n"), "hermes");
  EXPECT_EQ(calls("{{- '[TOOL_CALLS]' + tool_call.function.name }}"), "mistral");
  EXPECT_EQ(calls("respond only with <|tool_call|> followed by a JSON list"), "granite");
  EXPECT_EQ(calls("'<|tool|>' + message['tools'] + '<|/tool|>'"), "phi4");
  EXPECT_EQ(calls("{{- \"<|python_tag|>\" + tool_call.name }}"), "llama3");
  EXPECT_EQ(calls("{\"name\": function name, \"parameters\": dictionary of argument name and its value}"),
            "llama3");
  EXPECT_EQ(calls("between '<code>' and '</code>' tags ... <tool_call>"), "smollm3");
  EXPECT_EQ(calls("{{ message.content }}"), "none");
  EXPECT_EQ(find_tool_call_form("none", "<tool_call>"), nullptr);
  EXPECT_EQ(find_tool_call_form("mistral", "<tool_call>")->name, "mistral");
  EXPECT_EQ(find_reasoning_form("auto", "{{ '<think>\\n' }}")->name, "think");
  EXPECT_EQ(find_reasoning_form("auto", "[THINK]")->name, "mistral");
  EXPECT_EQ(find_reasoning_form("auto", ""), nullptr);
  EXPECT_THROW(find_tool_call_form("qwen", ""), std::invalid_argument);
}

}  // namespace
}  // namespace redline
