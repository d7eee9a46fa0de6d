// redline convert: a model, or random weights of a known shape, as a GGUF file.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "engine/checkpoint.h"
#include "engine/gguf_export.h"
#include "engine/meter/format.h"
#include "engine/model_shapes.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

struct ConvertFlags {
  std::string first, shape;
  std::optional<std::string> second;
  std::optional<DType> dtype;
  std::uint64_t seed = 0;
  std::int32_t threads = 0;
  bool force = false;
};

void write(const ConvertFlags& flags, const std::filesystem::path& out) {
  ProgressBar bar("converting");
  ExportOptions options;
  options.dtype = flags.dtype;
  options.num_threads =
      flags.threads > 0 ? flags.threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  options.progress = [&bar](std::int64_t done, std::int64_t total) { bar.show(done, total); };
  if (!flags.shape.empty()) {
    const auto config = named_shape(flags.shape);
    if (!config) throw UsageError("--shape: '" + flags.shape + "' is not known; there are " + shape_names());
    if (!options.dtype) options.dtype = DType::kBF16;
    return export_gguf(*config, flags.seed, out, options);
  }
  const Checkpoint checkpoint(flags.first);
  if (std::filesystem::exists(out) && std::filesystem::equivalent(out, checkpoint.path()))
    throw UsageError(out.string() + " is the model itself");
  export_gguf(checkpoint, out, options);
}

int convert(const ConvertFlags& flags) {
  const bool random = !flags.shape.empty();
  if (random == flags.second.has_value())
    throw UsageError(random ? "--shape takes no MODEL, only OUT" : "OUT: the file to write is missing");
  const std::filesystem::path out = random ? flags.first : *flags.second;
  if (std::filesystem::exists(out) && !flags.force)
    throw UsageError(out.string() + " exists; --force replaces it");
  write(flags, out);
  const auto bytes = static_cast<double>(std::filesystem::file_size(out));
  std::fprintf(stderr, "%s: %s\n", out.c_str(), format_si(bytes, "B").c_str());
  return kExitDone;
}

}  // namespace

Action declare_convert(Flags& flags) {
  const auto values = std::make_shared<ConvertFlags>();
  flags.argument("MODEL", "The model to convert; with --shape, the file to write", values->first);
  flags.argument("OUT", "The GGUF file to write", values->second);
  flags.dtype("--dtype", "Store matrices in this type (default: each keeps its own; bf16 with --shape)",
              values->dtype);
  flags.text("--shape", "NAME", "Random weights of this model's shape instead of MODEL", values->shape);
  flags.number("--seed", "Seed of the random weights", values->seed);
  flags.number("--threads", "Threads that convert; 0: one per core", values->threads, 0);
  flags.flag("--force", "Replace the file where it exists", values->force);
  return [values] { return convert(*values); };
}

}  // namespace redline
