// GGUF files: reading one, each tensor's bytes, and the configuration in its metadata.
#include "engine/gguf.h"

#include "engine/gguf_model.h"
#include "tests/fuzz/refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace redline;
  answers([&] {
    const GgufFile gguf(kFuzzedFile, as_bytes(data, size));
    for (const FileTensor& tensor : gguf.tensors()) read_all(tensor.data);
    gguf_model_config(gguf);
  });
  return 0;
}
