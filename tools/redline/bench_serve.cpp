// redline bench serve: load on an OpenAI-compatible server.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "tools/load/http_target.h"
#include "tools/redline/command.h"
#include "tools/redline/load_command.h"
#include "tools/redline/outside_flags.h"

namespace redline {
namespace {

struct BenchServeFlags {
  load::HttpOptions http;
  std::string served_name;
  LoadFlags load;
  OutsideFlags outside;
};

int bench_serve(BenchServeFlags flags) {
  flags.http.ignore_eos = flags.load.ignore_eos();
  flags.http.temperature = static_cast<double>(flags.load.temperature());
  // Files rather than a name: those of the server's model.
  const bool has_files = std::filesystem::exists(flags.http.model);
  if (has_files) {
    flags.outside.model = flags.http.model;
    flags.http.model.clear();
  }
  if (!flags.served_name.empty()) flags.http.model = flags.served_name;
  std::optional<OutsideFlags::Subject> subject;
  if (has_files) subject = flags.outside.subject();
  load::HttpTarget target(flags.http);
  load::LoadPoint named;
  named.backend = flags.http.endpoint.ends_with("/chat/completions") ? "openai-chat" : "openai";
  named.model = target.model();
  named.tokenizer = target.root();
  if (subject)
    named.seen_from_outside = [&subject](const load::DriveResult& outcome) -> std::optional<OutsideView> {
      const auto counts = load::counts_of(outcome, subject->limits);
      if (!counts) return std::nullopt;
      return subject->seen(load::view_between(load::MetricsPage(outcome.page_before),
                                              load::MetricsPage(outcome.page_after), *counts,
                                              outcome.wall_s));
    };
  return flags.load.run(target, named, load::num_words());
}

}  // namespace

Action declare_bench_serve(Flags& flags) {
  const auto values = std::make_shared<BenchServeFlags>();
  flags.argument("URL", "The server: http://host:port", values->http.url);
  flags.text("--endpoint", "PATH", "/v1/completions, or /v1/chat/completions", values->http.endpoint);
  flags.text("--model", "NAME|FILES",
             "The model to ask for (default: the first that the server names); or its files: they and the "
             "server's counters tell MFU and MBU, or their bounds",
             values->http.model);
  flags.text("--served-model-name", "NAME", "With files, the model to ask for", values->served_name);
  values->outside.add_to(flags);
  flags.text("--api-key", "KEY", "Send this key", values->http.api_key);
  values->load.add_to(flags);
  return [values] { return bench_serve(*values); };
}

}  // namespace redline
