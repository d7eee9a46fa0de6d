// Tensor maps and the two-dimensional tensor copy (TMA).
#include <cstring>
#include <limits>

#include "kernels/cuda/emulation/bulk_copy.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda {
namespace emulation {
namespace {

/// Bytes after which a swizzle pattern starts again along a row.
std::uint32_t span_bytes(dev::Swizzle swizzle) {
  switch (swizzle) {
    case dev::Swizzle::B128:
      return 128;
    case dev::Swizzle::B64:
      return 64;
    case dev::Swizzle::B32:
      return 32;
    case dev::Swizzle::None:
      break;
  }
  return std::numeric_limits<std::uint32_t>::max();
}

std::uint32_t destination_alignment(dev::Swizzle swizzle) {
  return swizzle == dev::Swizzle::None ? 128 : 8 * span_bytes(swizzle);
}

}  // namespace

std::uint32_t swizzled(std::uint32_t address, dev::Swizzle swizzle) {
  switch (swizzle) {
    case dev::Swizzle::B128:
      return address ^ ((address >> 3) & 0x70);
    case dev::Swizzle::B64:
      return address ^ ((address >> 3) & 0x30);
    case dev::Swizzle::B32:
      return address ^ ((address >> 3) & 0x10);
    case dev::Swizzle::None:
      break;
  }
  return address;
}

}  // namespace emulation

namespace dev {

using namespace emulation;

TensorMap2D make_tensor_map_2d(const void* base, std::uint64_t inner, std::uint64_t outer,
                               std::uint64_t row_stride_bytes, std::uint32_t box_inner,
                               std::uint32_t box_outer, std::uint32_t element_bytes, Swizzle swizzle) {
  const std::uint32_t row_bytes = box_inner * element_bytes;
  if (row_bytes > span_bytes(swizzle) || row_bytes % 16 || box_inner > 256 || box_outer > 256) {
    throw Error(text("tensor map: a box of ", box_inner, " x ", box_outer, " elements of ", element_bytes,
                     " bytes is not possible with this swizzle"));
  }
  if (row_stride_bytes % 16 || reinterpret_cast<std::uintptr_t>(base) % 16) {
    throw Error(
        text("tensor map: base and row stride (", row_stride_bytes, ") must be multiples of 16 bytes"));
  }
  return {static_cast<const unsigned char*>(base),
          {inner, outer},
          row_stride_bytes,
          {box_inner, box_outer},
          element_bytes,
          swizzle};
}

void tma_load_2d(void* shared, const TensorMap2D* map, int inner, int outer, std::uint64_t* mbarrier,
                 Location where) {
  Block& block = *running_block;
  check_mbarrier(mbarrier, "cp.async.bulk.tensor");
  const std::uint32_t row_bytes = map->box[0] * map->element_bytes;
  const std::uint32_t box_bytes = row_bytes * map->box[1];
  const std::uint32_t base = block.shared_address(shared);
  if (base % destination_alignment(map->swizzle)) {
    fail(text("cp.async.bulk.tensor: destination must be aligned to ", destination_alignment(map->swizzle),
              " bytes at ", describe(where)));
  }
  if (!block.in_shared(shared, box_bytes)) {
    fail(text("cp.async.bulk.tensor: destination outside shared memory at ", describe(where)));
  }
  BulkCopy copy{
      std::vector<unsigned char>(box_bytes), mbarrier, box_bytes, {}};  // elements out of range stay 0
  for (std::uint32_t r = 0; r < map->box[1]; ++r) {
    const std::int64_t row = std::int64_t{outer} + r;
    const bool row_exists = row >= 0 && row < static_cast<std::int64_t>(map->dim[1]);
    for (std::uint32_t c = 0; row_exists && c < map->box[0]; ++c) {
      const std::int64_t column = std::int64_t{inner} + c;
      if (column < 0 || column >= static_cast<std::int64_t>(map->dim[0])) continue;
      const unsigned char* const source = map->base +
                                          static_cast<std::uint64_t>(row) * map->row_stride_bytes +
                                          static_cast<std::uint64_t>(column) * map->element_bytes;
      std::memcpy(&copy.data[std::size_t{r} * row_bytes + std::size_t{c} * map->element_bytes], source,
                  map->element_bytes);
      if (race::enabled) {
        race::access_as(block.current().index, source, map->element_bytes, race::Access::kRead, nullptr,
                        "cp.async.bulk.tensor source", &where);
      }
    }
    for (std::uint32_t byte = 0; byte < row_bytes; byte += 16) {
      copy.pieces.push_back({swizzled(base + r * row_bytes + byte, map->swizzle), 16});
    }
  }
  issue(std::move(copy), where);
}

}  // namespace dev
}  // namespace redline::cuda
