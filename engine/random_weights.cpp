// Weights from a seed.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "engine/weight_source.h"
#include "kernels/convert.h"

namespace redline {
namespace {

// SplitMix64's output function: a bijection that scatters a counter.
std::uint64_t scatter(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

// Turns random bytes into one block of `dtype` whose values have |x| < 3 / 64 and an rms near 0.02: floats
// get a random sign and mantissa under the exponent of 2^-6, quantised types random quanta under one scale.
void shape_block(DType dtype, std::byte* block) {
  const auto with_exponent = [block](auto keep, auto exponent) {
    auto bits = keep;
    std::memcpy(&bits, block, sizeof bits);
    bits = static_cast<decltype(bits)>((bits & keep) | exponent);
    std::memcpy(block, &bits, sizeof bits);
  };
  switch (dtype) {
    case DType::kF32:
      return with_exponent(std::uint32_t{0x807fffff}, std::uint32_t{121u << 23});
    case DType::kF16:
      return with_exponent(std::uint16_t{0x83ff}, std::uint16_t{9u << 10});
    case DType::kBF16:
      return with_exponent(std::uint16_t{0x807f}, std::uint16_t{121u << 7});
    case DType::kQ8_0:
      return store_f16(0.03F / 128, block);
    case DType::kQ4_0:
      return store_f16(0.03F / 8, block);
    case DType::kQ4_1:
      store_f16(0.03F / 7.5F, block);
      return store_f16(-0.03F, block + 2);
    case DType::kQ5_0:
      return store_f16(0.03F / 16, block);
    case DType::kQ5_1:
      store_f16(0.03F / 15.5F, block);
      return store_f16(-0.03F, block + 2);
    case DType::kQ2_K:  // every group's scale and minimum 8
      std::fill_n(block, 16, std::byte{0x88});
      store_f16(0.02F / 8, block + 80);
      return store_f16(0.03F / 8, block + 82);
    case DType::kQ3_K:  // every scale 33, which means 1
      std::fill_n(block + 96, 8, std::byte{0x11});
      std::fill_n(block + 104, 4, std::byte{0xaa});
      return store_f16(0.03F / 4, block + 108);
    case DType::kQ4_K:
    case DType::kQ5_K:  // every group's scale and minimum 1
      std::fill_n(block + 4, 8, std::byte{0x01});
      std::fill_n(block + 12, 4, std::byte{0x11});
      store_f16(0.03F / (dtype == DType::kQ4_K ? 7.5F : 15.5F), block);
      return store_f16(0.03F, block + 2);
    case DType::kQ6_K:
      std::fill_n(block + 192, 16, std::byte{1});
      return store_f16(0.03F / 32, block + 208);
    case DType::kIQ4_NL:
      return store_f16(0.03F / 127, block);
    case DType::kIQ4_XS:  // every scale 33, which means 1
      std::fill_n(block + 2, 2, std::byte{0xaa});
      std::fill_n(block + 4, 4, std::byte{0x11});
      return store_f16(0.03F / 127, block);
    case DType::kMXFP4:  // 2^-8 times at most 12
      block[0] = std::byte{120};
      return;
    case DType::kF8E4M3: {
      const float scale = 0x1p-6F;
      std::memcpy(block, &scale, sizeof scale);
      for (int i = 4; i < 132; ++i) block[i] = (block[i] & std::byte{0x87}) | std::byte{7 << 3};
      return;
    }
  }
}

class RandomWeights final : public WeightSource {
 public:
  RandomWeights(const ModelConfig& config, DType dtype, std::uint64_t seed)
      : config_(config), dtype_(dtype), seed_(seed) {
    std::int64_t longest = 0;
    for_each_tensor(config, [&](TensorRole role, std::int64_t) {
      const auto shape = tensor_shape(role, config);
      if (shape.size() == 1) return;
      if (shape[1] % traits(dtype).block_elements != 0)
        throw std::invalid_argument(std::string(name(dtype)) + " needs rows of a multiple of " +
                                    std::to_string(traits(dtype).block_elements) + " elements, " +
                                    config.name + " has a matrix with " + std::to_string(shape[1]));
      longest = std::max(longest, shape[1]);
    });
    const auto block_bytes = traits(dtype).block_bytes;
    constexpr std::int64_t kPoolBytes = std::int64_t{8} << 20;
    num_starts_ = kPoolBytes / block_bytes;
    const auto pool_bytes = num_starts_ * block_bytes + row_bytes(dtype, longest);
    pool_.resize(static_cast<std::size_t>((pool_bytes + 7) / 8 * 8));
    for (std::size_t i = 0; i < pool_.size(); i += 8) {
      const std::uint64_t random = scatter(seed + i);
      std::memcpy(&pool_[i], &random, 8);
    }
    for (std::int64_t i = 0; i + block_bytes <= pool_bytes; i += block_bytes)
      shape_block(dtype, pool_.data() + i);
  }

  DType dtype(TensorRole, std::int64_t) const override { return dtype_; }

  MatrixSource matrix(TensorRole role, std::int64_t layer) override {
    const auto shape = tensor_shape(role, config_);
    const auto key =
        scatter(seed_ ^ static_cast<std::uint64_t>(layer * kNumTensorRoles + static_cast<int>(role)));
    return {dtype_, shape[0], shape[1], [this, key](std::int64_t row) {
              const auto start =
                  scatter(key + static_cast<std::uint64_t>(row)) % static_cast<std::uint64_t>(num_starts_);
              return pool_.data() + start * static_cast<std::uint64_t>(traits(dtype_).block_bytes);
            }};
  }

  std::vector<float> vector(TensorRole role, std::int64_t) override {
    const bool bias = role == TensorRole::kQBias || role == TensorRole::kKBias || role == TensorRole::kVBias;
    return std::vector<float>(static_cast<std::size_t>(tensor_shape(role, config_)[0]), bias ? 0.01F : 1.0F);
  }

  void done(TensorRole, std::int64_t) override {}

 private:
  const ModelConfig& config_;
  const DType dtype_;
  const std::uint64_t seed_;
  std::int64_t num_starts_ = 0;  // blocks of the pool at which a row may start
  std::vector<std::byte> pool_;
};

}  // namespace

std::unique_ptr<WeightSource> make_random_weights(const ModelConfig& config, DType dtype,
                                                  std::uint64_t seed) {
  return std::make_unique<RandomWeights>(config, dtype, seed);
}

}  // namespace redline
