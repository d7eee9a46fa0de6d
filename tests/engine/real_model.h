// The small real model that tests run: SmolLM2-135M-Instruct, Q4_1.
#pragma once

#include <cstdlib>
#include <string>

namespace redline {

/// REDLINE_TEST_MODEL, else where tools/get_model.sh puts it.
inline std::string real_model_path() {
  if (const char* path = std::getenv("REDLINE_TEST_MODEL")) return path;
  const char* home = std::getenv("HOME");
  return std::string(home ? home : "") + "/.cache/redline/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace redline
