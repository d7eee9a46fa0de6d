#include "engine/model_reference.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "engine/model_file_error.h"

namespace redline {
namespace {

namespace fs = std::filesystem;

fs::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path hub_cache() {
  if (const auto cache = environment_path("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const auto home = environment_path("HF_HOME"); !home.empty()) return home / "hub";
  if (const auto cache = environment_path("XDG_CACHE_HOME"); !cache.empty()) return cache / "huggingface/hub";
  return environment_path("HOME") / ".cache/huggingface/hub";
}

// "org/name", as the hub allows: letters, digits, '.', '_', '-'.
bool is_repository_id(const std::string& reference) {
  const auto is_name_character = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  };
  const auto slash = reference.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == reference.size() || reference[0] == '.')
    return false;
  return std::ranges::all_of(
      reference, [&, i = std::size_t{0}](char c) mutable { return i++ == slash || is_name_character(c); });
}

std::vector<fs::path> entries(const fs::path& directory) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) paths.push_back(entry.path());
  std::ranges::sort(paths);
  return paths;
}

// The snapshot of a cached repository that refs/main names; the only one where there is no such reference.
fs::path snapshot_of(const fs::path& repository) {
  std::string commit;
  std::ifstream(repository / "refs/main") >> commit;
  const auto snapshots = entries(repository / "snapshots");
  for (const auto& snapshot : snapshots)
    if (snapshot.filename() == commit || (commit.empty() && snapshots.size() == 1)) return snapshot;
  if (commit.empty()) throw ModelFileError({(repository / "refs/main").string()}, "a commit", "nothing");
  throw ModelFileError({(repository / "snapshots").string()}, "the snapshot " + commit, "none of that name");
}

fs::path model_in(const fs::path& directory) {
  if (fs::exists(directory / "config.json")) return directory;
  std::vector<fs::path> gguf_files;
  for (const auto& path : entries(directory))
    if (path.extension() == ".gguf") gguf_files.push_back(path);
  if (gguf_files.size() == 1) return gguf_files.front();
  throw ModelFileError(
      {directory.string()}, "config.json or one .gguf file",
      gguf_files.empty() ? "neither" : std::to_string(gguf_files.size()) + " .gguf files: name one");
}

}  // namespace

ModelLocation find_model(const std::string& reference) {
  std::error_code error;
  const fs::path path(reference);
  if (fs::is_directory(path, error)) {
    const auto canonical = fs::weakly_canonical(path, error);
    return {model_in(path), canonical.filename().string()};
  }
  if (fs::exists(path, error)) return {path, path.stem().string()};
  if (!is_repository_id(reference)) throw ModelFileError({reference}, "no such file or directory");
  std::string folder = "models--" + reference;
  folder.replace(folder.find('/'), 1, "--");
  const auto repository = hub_cache() / folder;
  if (!fs::is_directory(repository, error))
    throw ModelFileError({reference}, "no such file, and no such model in the cache at " +
                                          hub_cache().string() + "; `hf download " + reference +
                                          "` fetches it");
  return {model_in(snapshot_of(repository)), path.filename().string()};
}

}  // namespace redline
