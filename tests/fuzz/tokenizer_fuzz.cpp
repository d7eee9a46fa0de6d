// Tokenizers: a vocabulary, then a text to encode and decode. Input that begins with "{" is a tokenizer.json,
// a byte 0xFF and the text; other input is a GGUF file or, where it does not begin like one, a
// tokenizer.model, followed by the text, whose length the last byte says.
#include "engine/tokenizer/tokenizer.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/gguf.h"
#include "engine/tokenizer/sentencepiece_file.h"
#include "engine/tokenizer/tokenizer_gguf.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "tests/fuzz/refusal.h"

namespace redline {
namespace {

// For the loader of directories: in memory where the system has such a place.
class Directory {
 public:
  Directory() {
    const auto base =
        std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
    path_ = base / ("redline_fuzz_" + std::to_string(::getpid()));
    std::filesystem::create_directories(path_);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TokenizerSpec spec_of(const Directory& directory, const char* name, std::string_view bytes) {
  const auto path = directory.path() / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return std::string_view(name) == "tokenizer.model" ? load_sentencepiece(path)
                                                     : load_tokenizer(directory.path());
}

void encode(TokenizerSpec spec, std::string_view text) {
  const Tokenizer tokenizer(std::move(spec));
  for (const bool parse_special : {true, false}) {
    std::vector<TokenId> ids;
    try {
      ids = tokenizer.encode(text, {.parse_special = parse_special});
    } catch (const ModelFileError&) {
      std::abort();
    } catch (const std::runtime_error&) {
      return;  // a pattern of the file's own that backtracks without end
    }
    for (const TokenId id : ids)
      if (id < 0 || id >= tokenizer.num_tokens()) std::abort();
    static_cast<void>(tokenizer.decode(ids));
  }
}

}  // namespace
}  // namespace redline

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace redline;
  static const Directory directory;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string& file = directory.path().native();
  const bool json = input.starts_with('{');
  const std::size_t text_size = size == 0 ? 0 : std::min<std::size_t>(data[size - 1], size - 1);
  const std::size_t end = json ? std::min(input.find('\xFF'), size) : size - text_size - (size > 0);
  const std::string_view text = json ? input.substr(std::min(end + 1, size)) : input.substr(end, text_size);
  if (json)
    answers([&] { encode(spec_of(directory, "tokenizer.json", input.substr(0, end)), text); }, file);
  else if (input.starts_with("GGUF"))
    answers([&] { encode(gguf_tokenizer_spec(GgufFile(kFuzzedFile, as_bytes(data, end))), text); });
  else
    answers([&] { encode(spec_of(directory, "tokenizer.model", input.substr(0, end)), text); }, file);
  return 0;
}
