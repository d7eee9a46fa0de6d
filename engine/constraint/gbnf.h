// GBNF, the grammar notation of llama.cpp.
#pragma once

#include <string_view>

#include "engine/constraint/grammar.h"

namespace redline {

/// Rules `name ::= ...` of literals ("..." with \n \r \t \\ \" \[ \] \xNN \uNNNN \UNNNNNNNN), classes ([a-z],
/// [^...]), any character (.), groups, |, * + ? {m} {m,} {m,n}, special tokens (<name>) and comments
/// (#). A rule goes on over line breaks inside a group and after ::= and |. The rule `root` is where a text
/// begins. Throws GrammarError naming line and column.
Grammar parse_gbnf(std::string_view text);

}  // namespace redline
