// What a tokenizer is, whatever file it came from: the stages that engine/tokenizer/tokenizer.h runs, as
// data. Filled by tokenizer_json.h (Hugging Face directories), sentencepiece_file.h (tokenizer.model) and
// tokenizer_gguf.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace redline {

using TokenId = std::int32_t;
inline constexpr TokenId kNoToken = -1;

/// SentencePiece's space, U+2581.
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

/// A token matched in the text before it is pre-tokenized.
struct AddedToken {
  TokenId id = kNoToken;
  std::string content = {};  // raw UTF-8, not in the byte-level alphabet
  bool special = false;      // matched only where special tokens are parsed; left out of skip_special output
  bool normalized = false;   // matched in the normalised text, after the tokens that are not
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool single_word = false;  // matched only between non-word characters
};

// Normalisers: text to text, before the pre-tokenizer. Each is Hugging Face's of that name where it has one.

struct UnicodeForm {
  bool compatible;  // NFKC, NFKD
  bool composed;    // NFC, NFKC
  bool operator==(const UnicodeForm&) const = default;
};
struct Lowercase {
  bool operator==(const Lowercase&) const = default;
};
struct StripAccents {
  bool operator==(const StripAccents&) const = default;
};  // drops marks
struct Strip {
  bool left, right;
  bool operator==(const Strip&) const = default;
};
struct Prepend {
  std::string text;  // not to an empty text
  bool operator==(const Prepend&) const = default;
};
struct Replace {
  std::string pattern;  // in Oniguruma's syntax
  std::string text;     // taken as it is
  bool operator==(const Replace&) const = default;
};
/// SentencePiece's compiled character map, applied to grapheme clusters as Hugging Face does.
struct Precompiled {
  std::string charsmap;
  bool operator==(const Precompiled&) const = default;
};
/// SentencePiece's own normaliser.
struct SentencePieceNormalizer {
  std::string charsmap = {};  // empty: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
  std::vector<std::string> user_defined = {};  // texts that the map leaves alone
  bool operator==(const SentencePieceNormalizer&) const = default;
};
using NormalizerStep = std::variant<UnicodeForm, Lowercase, StripAccents, Strip, Prepend, Replace,
                                    Precompiled, SentencePieceNormalizer>;

// Pre-tokenizers: each step works on the pieces that the one before it left.

/// What becomes of the matches: dropped, pieces of their own, joined with neighbouring matches, or appended
/// to the piece before or after.
enum class SplitBehavior { kRemoved, kIsolated, kContiguous, kMergedWithPrevious, kMergedWithNext };
struct Split {
  std::string pattern;  // in Oniguruma's syntax
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what lies between the matches counts as the matches
  bool operator==(const Split&) const = default;
};
/// A space before each piece that does not begin with one.
struct PrefixSpace {
  bool operator==(const PrefixSpace&) const = default;
};
/// Spaces become `replacement`, which is also put before pieces (all, or the text's first) that lack it; cut
/// before each `replacement` if `split`.
struct Metaspace {
  enum class Scheme { kNever, kFirst, kAlways };
  std::string replacement = std::string(kSpaceSymbol);
  Scheme scheme = Scheme::kAlways;
  bool split = true;
  bool operator==(const Metaspace&) const = default;
};
/// The steps after it see the bytes in GPT-2's alphabet.
struct ByteAlphabet {
  bool operator==(const ByteAlphabet&) const = default;
};
using PreTokenizerStep = std::variant<Split, PrefixSpace, Metaspace, ByteAlphabet>;

// Decoders: how a token's text becomes its bytes.

struct DecodeByteLevel {};  // GPT-2's alphabet
struct DecodeBytes {};      // <0xNN>
/// Of each token, `start` times `content` at its start and `stop` times at its end are dropped.
struct DecodeStrip {
  std::string content;
  std::size_t start = 0, stop = 0;
};
using DecoderStep = std::variant<DecodeByteLevel, DecodeBytes, Replace, DecodeStrip>;

/// What is dropped at the very start of a decoded text.
struct LeadingStrip {
  std::size_t num_spaces = 0;
  bool all_of_first_token = false;  // instead: every space of the first token
};

enum class TokenModelKind {
  kBpe,        // ranked merges
  kScoredBpe,  // SentencePiece's BPE: the best-scored neighbours that make a token merge first
  kUnigram     // the segmentation of the best score
};

/// SentencePiece's numbers, and those of GGUF's `tokenizer.ggml.token_type`.
enum class TokenKind : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct TokenizerSpec {
  std::string source = {};  // the file's name, for error messages

  /// Token texts by id, in GPT-2's alphabet (space is U+0120 and so on) if byte_level, added tokens raw;
  /// empty for an id that does not exist.
  std::vector<std::string> tokens = {};
  std::vector<AddedToken> added_tokens = {};
  std::vector<NormalizerStep> normalizer = {};
  std::vector<PreTokenizerStep> pre_tokenizer = {};

  TokenModelKind model = TokenModelKind::kBpe;
  bool byte_level = true;                // kBpe works on bytes; else on characters
  std::vector<std::string> merges = {};  // of kBpe: "left right" as in `tokens`, best first
  /// A piece that is a token is that token, whatever the merges say (Llama 3).
  bool ignore_merges = false;
  std::vector<double> scores = {};    // of the others, by id
  std::vector<TokenKind> kinds = {};  // of the others, by id; empty: all are normal
  bool byte_fallback = false;         // unknown characters become the tokens <0xNN> of their bytes
  bool fuse_unk = false;              // neighbouring unknown characters become one unk_id
  bool single_precision = false;      // kUnigram: path scores are rounded as SentencePiece does
  /// Stands for what the vocabulary lacks; kNoToken drops it.
  TokenId unk_id = kNoToken;

  std::vector<DecoderStep> decoder = {};
  LeadingStrip leading_strip = {};

  /// Put before and after the text where special tokens are asked for.
  std::vector<TokenId> prefix_ids = {}, suffix_ids = {};
  TokenId bos_id = kNoToken;
  TokenId eos_id = kNoToken;
  TokenId pad_id = kNoToken;
  /// Tokens that end a generation, ascending. Loaders call add_end_of_generation_ids last.
  std::vector<TokenId> end_of_generation_ids = {};

  /// Jinja source; empty if the model carries none.
  std::string chat_template = {};
};

/// A pattern that matches `text` itself.
std::string quoted_pattern(std::string_view text);

/// The decoder of SentencePiece vocabularies: U+2581 is a space, <0xNN> a byte.
std::vector<DecoderStep> sentencepiece_decoder();

/// Adds eos_id and every added token with a name that ends a turn or a text (<|im_end|>, <|eot_id|>,
/// <|endoftext|>, ...) to end_of_generation_ids; sorts them, each once.
void add_end_of_generation_ids(TokenizerSpec& spec);

}  // namespace redline
