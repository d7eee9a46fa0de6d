#include "engine/chat_output/chat_form.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace redline {
namespace {

// A template that holds `marker` has the form; the first row decides.
struct TemplateMark {
  std::string_view marker, form;
};

constexpr TemplateMark kToolCallMarks[] = {
    {"[TOOL_CALLS]", "mistral"},
    {"<|tool_call_start|>", "lfm2"},
    {"<|tool_call|>", "granite"},
    {"<|tool|>", "phi4"},
    {"<code>", "smollm3"},
    {"<tool_call>", "hermes"},
    {"[func_name1(", "pythonic"},
    {"<|python_tag|>", "llama3"},
    {"\"parameters\": dictionary of argument name", "llama3"},
};

constexpr TemplateMark kReasoningMarks[] = {{"[THINK]", "mistral"}, {"<think>", "think"}};

template <class Form>
const Form* by_name(std::span<const Form> forms, std::string_view name) {
  const auto found = std::ranges::find(forms, name, &Form::name);
  return found == forms.end() ? nullptr : &*found;
}

template <class Form>
const Form* find_form(std::span<const Form> forms, std::span<const TemplateMark> marks, std::string_view name,
                      std::string_view chat_template, const char* kind) {
  if (name == "none") return nullptr;
  if (name == "auto") {
    for (const auto& [marker, form] : marks)
      if (chat_template.find(marker) != std::string_view::npos) return by_name(forms, form);
    return nullptr;
  }
  const Form* found = by_name(forms, name);
  if (found) return found;
  std::string known = "auto, none";
  for (const Form& form : forms) known += ", " + std::string(form.name);
  throw std::invalid_argument("'" + std::string(name) + "' is no " + kind + " parser; there are " + known);
}

}  // namespace

std::vector<std::string_view> ToolCallForm::markers() const {
  std::vector<std::string_view> all = closers;
  all.insert(all.end(), inner.begin(), inner.end());
  for (const CallOpener& opener : openers) all.push_back(opener.marker);
  std::erase_if(all, [](std::string_view marker) { return marker.size() == 1; });
  return all;
}

std::span<const ToolCallForm> tool_call_forms() {
  using enum CallSyntax;
  static const ToolCallForm kForms[] = {
      // Qwen 2.5 and 3, Hermes 2 and 3, Granite 4
      {"hermes", {{"<tool_call>", kJson}}, {"</tool_call>"}, {}},
      // Llama 3.1 to 3.3
      {"llama3", {{"<|python_tag|>", kJson}, {"{", kJson, true}}, {";"}, {}},
      // Llama 3.2 and 4 as their makers prompt them
      {"pythonic", {{"<|python_start|>", kPython}, {"[", kPython, true}}, {"<|python_end|>"}, {}},
      {"mistral", {{"[TOOL_CALLS]", kNamed}}, {}, {"[ARGS]", "[CALL_ID]"}},
      // Granite 3
      {"granite", {{"<|tool_call|>", kJson}, {"<tool_call>", kJson}}, {"</tool_call>", "<|/tool_call|>"}, {}},
      {"phi4", {{"<|tool_call|>", kJson}, {"functools", kJson}}, {"<|/tool_call|>"}, {}},
      {"smollm3", {{"<tool_call>", kJson}, {"<code>", kCode}}, {"</tool_call>", "</code>"}, {}},
      {"lfm2", {{"<|tool_call_start|>", kPython}}, {"<|tool_call_end|>"}, {}},
      // What a mask forces where no form is known
      {"json", {{"{", kJson, true}, {"[", kJson, true}}, {}, {}},
  };
  return kForms;
}

std::span<const ReasoningForm> reasoning_forms() {
  static constexpr ReasoningForm kForms[] = {{"think", "<think>", "</think>"},
                                             {"mistral", "[THINK]", "[/THINK]"}};
  return kForms;
}

const ToolCallForm* find_tool_call_form(std::string_view name, std::string_view chat_template) {
  return find_form(tool_call_forms(), std::span<const TemplateMark>(kToolCallMarks), name, chat_template,
                   "tool call");
}

const ReasoningForm* find_reasoning_form(std::string_view name, std::string_view chat_template) {
  return find_form(reasoning_forms(), std::span<const TemplateMark>(kReasoningMarks), name, chat_template,
                   "reasoning");
}

}  // namespace redline
