#include "engine/tokenizer/sentencepiece_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "engine/mapped_file.h"
#include "engine/model_file_error.h"

namespace redline {
namespace {

// One message of a protocol buffer, field by field.
class Message {
 public:
  struct Field {
    std::uint64_t number = 0;
    std::uint64_t value = 0;      // of a varint or a fixed-size field
    std::string_view bytes = {};  // of a length-delimited one
  };

  Message(const std::string& file, std::string_view bytes, std::size_t offset)
      : file_(file), bytes_(bytes), offset_(offset) {}

  std::optional<Field> next() {
    if (at_ == bytes_.size()) return std::nullopt;
    const std::uint64_t key = varint();
    Field field{.number = key >> 3};
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2: {
        const std::uint64_t size = varint();
        if (size > bytes_.size() - at_)
          fail("a field of at most " + std::to_string(bytes_.size() - at_) + " bytes", std::to_string(size));
        field.bytes = bytes_.substr(at_, size);
        at_ += size;
        break;
      }
      case 5:
        field.value = fixed(4);
        break;
      default:
        fail("wire type 0, 1, 2 or 5", std::to_string(key & 7));
    }
    return field;
  }

  Message inside(const Field& field) const {
    return {file_, field.bytes, offset_ + static_cast<std::size_t>(field.bytes.data() - bytes_.data())};
  }

  [[noreturn]] void fail(const std::string& expected, const std::string& found) const {
    throw ModelFileError({.file = file_, .offset = offset_ + at_}, expected, found);
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint64_t byte = fixed(1);
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail("a varint of at most 10 bytes", "more");
  }
  std::uint64_t fixed(std::size_t size) {
    if (size > bytes_.size() - at_) fail(std::to_string(size) + " more bytes", "the end");
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes_[at_ + i]);
    at_ += size;
    return value;
  }

  const std::string& file_;
  std::string_view bytes_;
  std::size_t offset_;
  std::size_t at_ = 0;
};

// Field numbers as in sentencepiece_model.proto.
enum ModelField { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3 };
enum PieceField { kPieceText = 1, kPieceScore = 2, kPieceType = 3 };
enum TrainerField {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kUnkId = 40,
  kBosId = 41,
  kEosId = 42,
  kPadId = 43
};
enum NormalizerField {
  kCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5
};

void read_piece(Message message, TokenizerSpec& spec) {
  std::string text;
  double score = 0;
  TokenKind kind = TokenKind::kNormal;
  while (const auto field = message.next()) {
    if (field->number == kPieceText) text = field->bytes;
    if (field->number == kPieceScore) score = std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
    if (field->number != kPieceType) continue;
    if (field->value < 1 || field->value > 6)
      message.fail("a piece's type from 1 to 6", std::to_string(field->value));
    kind = static_cast<TokenKind>(field->value);
  }
  if (!std::isfinite(score)) message.fail("a finite score", std::to_string(score));
  spec.tokens.push_back(std::move(text));
  spec.scores.push_back(score);
  spec.kinds.push_back(kind);
}

struct Ids {
  std::int32_t unk = 0, bos = 1, eos = 2, pad = -1;
};

void read_trainer(Message message, TokenizerSpec& spec, Ids& ids, SentencePieceNormalizer& rules) {
  constexpr std::uint64_t kUnigramType = 1, kBpeType = 2;
  while (const auto field = message.next()) {
    const auto id = static_cast<std::int32_t>(field->value);
    if (field->number == kUnkId) ids.unk = id;
    if (field->number == kBosId) ids.bos = id;
    if (field->number == kEosId) ids.eos = id;
    if (field->number == kPadId) ids.pad = id;
    if (field->number == kWhitespaceAsSuffix) rules.whitespace_as_suffix = field->value != 0;
    if (field->number != kModelType) continue;
    if (field->value != kUnigramType && field->value != kBpeType)
      message.fail("model type 1 (unigram) or 2 (BPE)", std::to_string(field->value));
    spec.model = field->value == kBpeType ? TokenModelKind::kScoredBpe : TokenModelKind::kUnigram;
  }
}

void read_normalizer(Message message, SentencePieceNormalizer& rules) {
  while (const auto field = message.next()) {
    if (field->number == kCharsmap) rules.charsmap = field->bytes;
    if (field->number == kAddDummyPrefix) rules.add_dummy_prefix = field->value != 0;
    if (field->number == kRemoveExtraWhitespaces) rules.remove_extra_whitespaces = field->value != 0;
    if (field->number == kEscapeWhitespaces) rules.escape_whitespaces = field->value != 0;
  }
}

TokenId valid_id(const TokenizerSpec& spec, std::int32_t id) {
  return id >= 0 && static_cast<std::size_t>(id) < spec.tokens.size() ? id : kNoToken;
}

}  // namespace

TokenizerSpec load_sentencepiece(const std::filesystem::path& path) {
  TokenizerSpec spec;
  spec.source = path.string();
  spec.model = TokenModelKind::kUnigram;
  spec.byte_level = false;
  spec.single_precision = true;
  SentencePieceNormalizer rules{.remove_extra_whitespaces = true};
  Ids ids;
  const MappedFile file(path);
  Message message(spec.source, {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, 0);
  while (const auto field = message.next()) {
    if (field->number == kPieces) read_piece(message.inside(*field), spec);
    if (field->number == kTrainerSpec) read_trainer(message.inside(*field), spec, ids, rules);
    if (field->number == kNormalizerSpec) read_normalizer(message.inside(*field), rules);
  }
  if (spec.tokens.empty()) throw ModelFileError({.file = spec.source}, "pieces", "none");
  spec.unk_id = valid_id(spec, ids.unk);
  spec.bos_id = valid_id(spec, ids.bos);
  spec.eos_id = valid_id(spec, ids.eos);
  spec.pad_id = valid_id(spec, ids.pad);
  if (spec.bos_id != kNoToken) spec.prefix_ids = {spec.bos_id};
  set_sentencepiece_rules(spec);
  for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
    if (spec.kinds[i] != TokenKind::kUserDefined) continue;
    rules.user_defined.push_back(spec.tokens[i]);
    // Unigram's own scores see to it that these are taken.
    if (spec.model == TokenModelKind::kScoredBpe)
      spec.added_tokens.push_back(
          {.id = static_cast<TokenId>(i), .content = spec.tokens[i], .normalized = true});
  }
  spec.leading_strip.num_spaces = rules.add_dummy_prefix && !rules.whitespace_as_suffix ? 1 : 0;
  spec.normalizer = {std::move(rules)};
  return spec;
}

void set_sentencepiece_rules(TokenizerSpec& spec) {
  spec.fuse_unk = true;
  spec.decoder = sentencepiece_decoder();
  for (std::size_t i = 0; i < spec.kinds.size(); ++i) {
    const TokenKind kind = spec.kinds[i];
    if (kind == TokenKind::kByte) spec.byte_fallback = true;
    if (kind == TokenKind::kUnknown && spec.unk_id == kNoToken) spec.unk_id = static_cast<TokenId>(i);
    if (kind == TokenKind::kControl || kind == TokenKind::kUnknown)
      spec.added_tokens.push_back(
          {.id = static_cast<TokenId>(i), .content = spec.tokens[i], .special = true});
  }
}

}  // namespace redline
