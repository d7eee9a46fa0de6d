// Maps of texts, quick to build and to look into. For this folder's own sources: it brings in Boost.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <functional>
#include <string>
#include <string_view>

namespace redline {

struct TextHash : std::hash<std::string_view> {
  using is_transparent = void;
  using is_avalanching = void;  // so it needs no more mixing
};

/// Found by any string_view. What a pointer or reference meant is lost when the map grows.
template <typename Value>
using TextMap = boost::unordered_flat_map<std::string, Value, TextHash, std::equal_to<>>;

}  // namespace redline
