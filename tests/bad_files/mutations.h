// Model files changed in one place each, as their formats' structure suggests.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/engine/model_files.h"

namespace redline {

struct Mutation {
  std::string what;   // for messages: the field, and what became of it
  std::string bytes;  // the whole file
};

/// Every field of a GGUF file (counts, lengths, types, dimensions, offsets, values) at its extremes and at
/// its neighbours' values; keys of every other type, missing, twice, not UTF-8; tensors missing, twice,
/// renamed, of other shapes; the file cut at and beside the start of every field.
std::vector<Mutation> gguf_mutations(GgufWriter writer);

/// Every value of a document replaced by values of every type, numbers at their extremes, what JSON does not
/// have, deep nesting and bytes that are not UTF-8; every key missing, twice, renamed; array items missing
/// and twice; the text cut at every structural character. At most `max_count`, chosen by `seed`.
std::vector<Mutation> json_mutations(const nlohmann::ordered_json& document, std::size_t max_count,
                                     std::uint32_t seed);

/// json_mutations of a safetensors header over the same data, and header lengths that do not fit.
std::vector<Mutation> safetensors_mutations(const std::string& file, std::size_t max_count,
                                            std::uint32_t seed);

/// A template's tags and words removed, repeated and exchanged, and the source cut.
std::vector<Mutation> template_mutations(const std::string& source, std::size_t max_count,
                                         std::uint32_t seed);

}  // namespace redline
