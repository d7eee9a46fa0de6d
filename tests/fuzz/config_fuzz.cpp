// config.json.
#include "engine/hf_config.h"
#include "engine/json_file.h"
#include "tests/fuzz/refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace redline;
  answers([&] { read_hf_config(JsonFile(kFuzzedFile, {reinterpret_cast<const char*>(data), size})); });
  return 0;
}
