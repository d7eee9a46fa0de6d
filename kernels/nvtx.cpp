#include "kernels/nvtx.h"

#include <cstdlib>
#include <cstring>

#ifdef REDLINE_HAS_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace redline {

bool wants_nvtx_layers() {
  static const bool wanted = [] {
    const char* value = std::getenv("REDLINE_NVTX_LAYERS");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  return wanted;
}

#ifdef REDLINE_HAS_NVTX

namespace {

nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("redline");
  return domain;
}

}  // namespace

NvtxRange::NvtxRange(const char* name) {
  nvtxEventAttributes_t event{};
  event.version = NVTX_VERSION;
  event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  event.messageType = NVTX_MESSAGE_TYPE_ASCII;
  event.message.ascii = name;
  nvtxDomainRangePushEx(domain(), &event);
}
NvtxRange::~NvtxRange() { nvtxDomainRangePop(domain()); }
bool has_nvtx() { return true; }

#else

NvtxRange::NvtxRange(const char*) {}
NvtxRange::~NvtxRange() = default;
bool has_nvtx() { return false; }

#endif

}  // namespace redline
