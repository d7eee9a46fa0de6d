// Safetensors files: reading one, and each tensor's bytes.
#include "engine/safetensors.h"

#include "tests/fuzz/refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace redline;
  answers([&] {
    const SafetensorsFile file(kFuzzedFile, as_bytes(data, size));
    for (const auto& tensor : file.tensors()) read_all(tensor.data);
  });
  return 0;
}
