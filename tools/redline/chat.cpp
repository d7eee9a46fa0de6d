// redline chat: a conversation in turns. Every turn renders the whole history; the prefix cache remembers
// what was computed of it.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/chat_prompt.h"
#include "engine/meter/format.h"
#include "tools/redline/command.h"
#include "tools/redline/session.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kHelp =
    "/stats  what the conversation has cost so far\n"
    "/reset  forget it and begin again\n"
    "/help   this\n"
    "/exit   end (or Ctrl-D); Ctrl-C stops an answer\n";

struct ChatFlags {
  std::string model, system, trace;
  ModelFlags model_flags;
  CacheFlags cache;
  SamplingFlags sampling;
};

/// Lines of standard input, with a prompt on a terminal.
class LineReader {
 public:
  /// The next line without its end; nothing at the end of input. Ctrl-C starts the line anew.
  std::optional<std::string> next() {
    const bool terminal = isatty(STDIN_FILENO) == 1;
    while (true) {
      if (const auto end = buffer_.find('\n'); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      const InterruptGuard interrupt;
      if (terminal && buffer_.empty()) std::fputs("> ", stderr);
      char bytes[4096];
      const ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
      if (count < 0 && errno == EINTR) {
        buffer_.clear();
        std::fputs("\n(Ctrl-D or /exit ends)\n", stderr);
      } else if (count <= 0) {
        if (buffer_.empty()) return std::nullopt;
        buffer_ += '\n';
      } else {
        buffer_.append(bytes, static_cast<std::size_t>(count));
      }
    }
  }

 private:
  std::string buffer_;
};

class Conversation {
 public:
  Conversation(Session& session, const ChatFlags& flags)
      : session_(session), flags_(flags), prompt_(tokenizer_of(session.model())) {
    reset();
  }

  void reset() {
    messages_ = Json::array();
    if (!flags_.system.empty()) messages_.push_back({{"role", "system"}, {"content", flags_.system}});
  }

  /// Streams the answer to `text`; what was said stays in the history, an unfinished answer too.
  void say(const std::string& text) {
    messages_.push_back({{"role", "user"}, {"content", text}});
    Request request;
    request.sampling = flags_.sampling.sampling();
    Reply answer;
    try {
      request.prompt = prompt_.tokens(messages_);
      answer = session_.answer(std::move(request), [](std::string_view piece) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      });
    } catch (const std::exception& error) {
      messages_.erase(messages_.size() - 1);
      std::fprintf(stderr, "%s; /reset begins again\n", error.what());
      return;
    }
    std::printf("\n");
    std::fflush(stdout);
    messages_.push_back({{"role", "assistant"}, {"content", answer.text}});
    total_.wall_s += answer.summary.wall_s;
    if (!total_.ttft_s) total_.ttft_s = answer.summary.ttft_s;
    total_.prompt_tokens += answer.summary.prompt_tokens;
    total_.cached_tokens += answer.summary.cached_tokens;
    total_.generated_tokens += answer.summary.generated_tokens;
  }

  void print_stats() const {
    const EngineStats stats = session_.stats();
    std::fprintf(
        stderr, "%scache %s of %s, prefix cache %s of %s prompt tokens\n", session_.report(total_).c_str(),
        format_percent(stats.kv_usage).c_str(), format_si(static_cast<double>(stats.kv_bytes), "B").c_str(),
        format_count(stats.prefix_hit_tokens).c_str(), format_count(stats.prefix_queried_tokens).c_str());
  }

 private:
  Session& session_;
  const ChatFlags& flags_;
  const ChatPrompt prompt_;
  Json messages_;
  RunSummary total_;
};

int chat(const ChatFlags& flags) {
  Session session(load_model(flags.model, flags.model_flags), flags.cache.options, flags.trace);
  Conversation conversation(session, flags);
  LineReader lines;
  if (isatty(STDIN_FILENO) == 1) std::fprintf(stderr, "%s; /help\n", model_name(flags.model).c_str());
  while (const auto line = lines.next()) {
    if (line->empty()) continue;
    if (*line == "/exit" || *line == "/quit") break;
    if (*line == "/stats")
      conversation.print_stats();
    else if (*line == "/reset")
      conversation.reset();
    else if (line->front() == '/')
      std::fputs(kHelp, stderr);
    else
      conversation.say(*line);
  }
  session.close_trace();
  std::fputs("\n", stderr);
  conversation.print_stats();
  return kExitDone;
}

}  // namespace

Action declare_chat(Flags& flags) {
  const auto values = std::make_shared<ChatFlags>();
  add_model_argument(flags, values->model);
  flags.text("--system", "TEXT", "A system message before the conversation", values->system);
  values->sampling.add_to(flags);
  values->cache.add_to(flags);
  values->model_flags.add_to(flags);
  add_trace_flag(flags, values->trace);
  return [values] { return chat(*values); };
}

}  // namespace redline
