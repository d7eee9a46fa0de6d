// The subcommands of `redline`: each file declares its flags and returns what runs it.
#pragma once

#include <functional>

#include "tools/redline/flags.h"

namespace redline {

// The exit statuses of every command.
inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;          // its reason is the last line on stderr
inline constexpr int kExitUsage = 2;          // wrong flags or arguments
inline constexpr int kExitRegressed = 3;      // baseline check: something is worse
inline constexpr int kExitNotComparable = 4;  // baseline check: nothing was, or enough, to compare
inline constexpr int kExitInterrupted = 130;  // Ctrl-C

/// Runs a command whose flags were parsed; returns the exit status. Throws UsageError, ModelFileError and
/// other exceptions whose what() is one line for the user.
using Action = std::function<int()>;

Action declare_run(Flags& flags);
Action declare_chat(Flags& flags);
Action declare_batch(Flags& flags);
Action declare_baseline(Flags& flags);
Action declare_baseline_record(Flags& flags);
Action declare_baseline_check(Flags& flags);
Action declare_compare(Flags& flags);
Action declare_bench(Flags& flags);
Action declare_bench_serve(Flags& flags);
Action declare_bench_load(Flags& flags);
Action declare_bench_signatures(Flags& flags);
Action declare_cost(Flags& flags);
Action declare_eval(Flags& flags);
Action declare_inspect(Flags& flags);
Action declare_plan(Flags& flags);
Action declare_probe(Flags& flags);
Action declare_report(Flags& flags);
Action declare_tokenize(Flags& flags);
Action declare_template(Flags& flags);
Action declare_convert(Flags& flags);
Action declare_serve(Flags& flags);
Action declare_top(Flags& flags);

struct Command {
  const char* name;  // of two words: below the command named first
  const char* description;
  Action (*declare)(Flags& flags);
};

inline constexpr Command kCommands[] = {
    {"run", "Answer one prompt, then report what the hardware did for it", declare_run},
    {"chat", "Talk with a model in turns", declare_chat},
    {"serve", "Serve a model over HTTP, OpenAI-compatible", declare_serve},
    {"top", "Watch a server: utilisation, tokens, batch, memory and latency", declare_top},
    {"batch", "Answer a file of OpenAI's batch requests, continuing where a run before ended", declare_batch},
    {"bench", "Measure prefill and decode: tokens per second, MFU and MBU", declare_bench},
    {"bench serve", "Measure an OpenAI-compatible server under load", declare_bench_serve},
    {"bench load", "Measure the engine under the same load, without a server", declare_bench_load},
    {"bench signatures", "Switch each technique off and on, and show what that does to the meters",
     declare_bench_signatures},
    {"cost", "What tokens cost: from a measured run, or from price, peak and MFU", declare_cost},
    {"plan", "What a device would do with a load: latency, throughput, memory, cost, devices", declare_plan},
    {"report", "Who used what: calls, tokens, FLOPs, device time and cost from a server's ledger",
     declare_report},
    {"baseline", "Keep what was measured, and say whether it still holds", declare_baseline},
    {"baseline record", "Keep distributions of runs by model, device, type, phase, batch and context",
     declare_baseline_record},
    {"baseline check", "Hold runs against them: exit 0 kept, 3 regressed, 4 not comparable",
     declare_baseline_check},
    {"compare", "Run two builds or configurations in turn, and say whether they differ", declare_compare},
    {"eval", "Perplexity of a text, its logits, and their distance from a base's", declare_eval},
    {"inspect", "What a model is, what it needs, and what bounds it on a device", declare_inspect},
    {"probe", "Measure the peaks that this machine attains", declare_probe},
    {"tokenize", "Text to token ids and back", declare_tokenize},
    {"template", "Render a model's chat template", declare_template},
    {"convert", "Write a model, or random weights of a known shape, as a GGUF file", declare_convert},
};

}  // namespace redline
