// One test, since a process loads its profiler once: what an engine's work looks like to it.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "kernels/nvtx.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

TEST(NvtxRanges, ShowAProfilerWhatTheEngineDoes) {
  ASSERT_TRUE(has_nvtx());
  ::setenv("NVTX_INJECTION64_PATH", REDLINE_NVTX_TOOL, 1);
  ::setenv("REDLINE_NVTX_LAYERS", "1", 1);
  const Tokenizer tokenizer(
      load_tokenizer(std::filesystem::path(REDLINE_SOURCE_DIR) / "tests/goldens/tokenizer/sp_bpe"));
  EXPECT_FALSE(tokenizer.encode("some text").empty());
  {
    Engine engine(tiny_model(), {.max_context = 64, .max_sequences = 1});
    Request request;
    request.prompt = {1, 2, 3};
    request.sampling.max_tokens = 2;
    request.sampling.ignore_eos = true;
    const auto stream = engine.submit(request);
    while (stream->next()) {
    }
  }
  void* const tool = ::dlopen(REDLINE_NVTX_TOOL, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(tool, nullptr) << "NVTX has not loaded it";
  const auto ranges_seen = reinterpret_cast<const char* (*)()>(::dlsym(tool, "ranges_seen"));
  ASSERT_NE(ranges_seen, nullptr);
  EXPECT_STREQ(ranges_seen(),
               "+tokenise - "
               "+schedule - +prefill +layer 0 - +layer 1 - - +sample - "
               "+schedule - +decode +layer 0 - +layer 1 - - +sample - ");
}

}  // namespace
}  // namespace redline
