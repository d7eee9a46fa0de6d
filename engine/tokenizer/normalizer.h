// The first stage: text to normalised text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Immutable; shared by threads.
class Normalizer {
 public:
  /// Throws ModelFileError naming `source` for a pattern or a character map that is none.
  Normalizer(const std::vector<NormalizerStep>& steps, const std::string& source);
  ~Normalizer();
  Normalizer(Normalizer&&) noexcept;

  /// Whether the text handed over is the whole of what lies between two added tokens (or the text's ends), or
  /// a part of it because bytes that are no UTF-8 lie between: prefixes and suffixes belong to the whole.
  struct Edges {
    bool begins = true, ends = true;
  };
  /// `text` is valid UTF-8 and not empty; the result may be empty.
  std::string operator()(std::string_view text, Edges edges) const;
  /// What an added token that is matched in normalised text is matched as.
  std::string added_token(const std::string& content) const;

  bool empty() const { return steps_.empty(); }

  /// One step.
  class Step {
   public:
    virtual ~Step() = default;
    virtual std::string apply(std::string_view text, Edges edges) const = 0;
  };

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
  bool keeps_added_tokens_ = false;
};

}  // namespace redline
