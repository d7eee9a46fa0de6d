// A profiler for nvtx_test: notes the names of ranges in the domain "redline" as they begin ("+decode") and
// end
// ("-"). NVTX opens it where NVTX_INJECTION64_PATH names it.
#include <nvtx3/nvToolsExt.h>

#include <cstring>
#include <mutex>
#include <string>

namespace {

std::mutex mutex;
std::string seen;
char handle;  // of the domain

nvtxDomainHandle_t create_domain(const char* name) {
  return std::strcmp(name, "redline") == 0 ? reinterpret_cast<nvtxDomainHandle_t>(&handle) : nullptr;
}
int push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* event) {
  const std::lock_guard lock(mutex);
  if (domain == reinterpret_cast<nvtxDomainHandle_t>(&handle))
    seen += std::string("+") + event->message.ascii + " ";
  return 0;
}
int pop(nvtxDomainHandle_t domain) {
  const std::lock_guard lock(mutex);
  if (domain == reinterpret_cast<nvtxDomainHandle_t>(&handle)) seen += "- ";
  return 0;
}

}  // namespace

extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
  *table[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(&create_domain);
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  return 1;
}

/// All that was seen so far.
extern "C" const char* ranges_seen() {
  const std::lock_guard lock(mutex);
  static std::string copy;
  copy = seen;
  return copy.c_str();
}
