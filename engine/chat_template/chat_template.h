// Chat templates: Jinja programs that models carry, rendered byte for byte as jinja2 does with Hugging Face's
// settings (trim_blocks, lstrip_blocks, their tojson, raise_exception, strftime_now, {% generation %}, break
// and continue). Not there: inheritance, include, import, recursive loops, and Python's rarer str methods and
// filters, each an error that names it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redline {

/// A template that cannot be parsed or rendered. what() is "line N: MESSAGE".
class TemplateError : public std::runtime_error {
 public:
  TemplateError(int line, const std::string& message)
      : std::runtime_error("line " + std::to_string(line) + ": " + message), line_(line), message_(message) {}
  int line() const { return line_; }
  const std::string& message() const { return message_; }

 private:
  int line_;
  std::string message_;
};

/// A parsed template; immutable, shared by threads.
class ChatTemplate {
 public:
  /// What one rendering may take before it fails.
  struct Limits {
    std::int64_t max_steps = 5'000'000;    // evaluated nodes and compared items
    std::int64_t max_bytes = 128ll << 20;  // of text and lists made, output included
    int max_depth = 400;                   // nested blocks, expressions and macro calls
    std::chrono::system_clock::time_point now =
        std::chrono::system_clock::now();  // strftime_now's, local time
  };

  /// Throws TemplateError.
  explicit ChatTemplate(std::string_view source);
  ~ChatTemplate();

  /// The text that `variables` (an object) gives. Throws TemplateError, also for raise_exception.
  std::string render(const nlohmann::ordered_json& variables, const Limits& limits) const;
  std::string render(const nlohmann::ordered_json& variables) const;

 private:
  struct Program;
  std::unique_ptr<const Program> program_;
};

/// The variables that Hugging Face passes: messages, tools, documents (null: None) and add_generation_prompt,
/// under the special tokens' names ("bos_token", ...) and `more`, whose members replace any of them.
nlohmann::ordered_json chat_variables(const nlohmann::ordered_json& messages,
                                      const nlohmann::ordered_json& tools,
                                      const std::vector<std::pair<std::string, std::string>>& special_tokens,
                                      bool add_generation_prompt, const nlohmann::ordered_json& more);

}  // namespace redline
