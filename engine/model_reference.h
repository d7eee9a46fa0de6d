// From what a user calls a model to where its files are.
#pragma once

#include <filesystem>
#include <string>

namespace redline {

struct ModelLocation {
  std::filesystem::path path;  // a .gguf file, or a directory with config.json
  std::string name;            // for people: the file's or directory's base name, or that of the repository
};

/// `reference`: a file, a directory (one with a single .gguf and no config.json stands for that file), or a
/// repository id "org/name" whose main revision is in the local Hugging Face cache: $HF_HUB_CACHE, else
/// $HF_HOME/hub, else ~/.cache/huggingface/hub. Throws ModelFileError saying where it looked.
ModelLocation find_model(const std::string& reference);

}  // namespace redline
