// Named ranges of the host's time for NVIDIA's profilers (Nsight Systems), in the domain "redline".
//
// NVTX is headers of the CUDA toolkit: built without them, ranges are nothing. With them and no profiler
// attached, a range costs two calls that return at once.
#pragma once

namespace redline {

/// A range from here to the end of the scope; ranges of a thread nest.
class NvtxRange {
 public:
  explicit NvtxRange(const char* name);
  ~NvtxRange();
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
};

/// Whether this build can show ranges.
bool has_nvtx();
/// Whether each layer is to be a range of its own: where REDLINE_NVTX_LAYERS is set to 1.
bool wants_nvtx_layers();

}  // namespace redline
