// The keys of JSON objects, held against docs/json.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace redline::tests {

/// The object that docs/json.md shows under "## COMMAND": the first ```json block of that section. Throws
/// std::runtime_error where there is none.
nlohmann::json documented(const std::string& command);

/// The keys, as paths separated by spaces, that `expected` has and `found` lacks. Of arrays, the first
/// elements are compared. Where either is null, what lies below is unknown and not compared; nor is by_dtype,
/// whose keys are the arithmetic that ran.
std::string missing_keys(const nlohmann::json& expected, const nlohmann::json& found,
                         const std::string& path = "");

}  // namespace redline::tests
