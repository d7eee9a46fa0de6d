// redline bench serve: load on an OpenAI-compatible server.
#include <memory>
#include <string>

#include "tools/load/http_target.h"
#include "tools/redline/command.h"
#include "tools/redline/load_command.h"

namespace redline {
namespace {

struct BenchServeFlags {
  load::HttpOptions http;
  LoadFlags load;
};

int bench_serve(BenchServeFlags flags) {
  flags.http.ignore_eos = flags.load.ignore_eos();
  flags.http.temperature = static_cast<double>(flags.load.temperature());
  load::HttpTarget target(flags.http);
  load::LoadPoint named;
  named.backend = flags.http.endpoint.ends_with("/chat/completions") ? "openai-chat" : "openai";
  named.model = target.model();
  named.tokenizer = target.root();
  return flags.load.run(target, named, load::num_words());
}

}  // namespace

Action declare_bench_serve(Flags& flags) {
  const auto values = std::make_shared<BenchServeFlags>();
  flags.argument("URL", "The server: http://host:port", values->http.url);
  flags.text("--endpoint", "PATH", "/v1/completions, or /v1/chat/completions", values->http.endpoint);
  flags.text("--model", "NAME", "The model to ask for (default: the first that the server names)",
             values->http.model);
  flags.text("--api-key", "KEY", "Send this key", values->http.api_key);
  values->load.add_to(flags);
  return [values] { return bench_serve(*values); };
}

}  // namespace redline
