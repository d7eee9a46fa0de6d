// Two GPUs of which CUDA may see the second, for device_sensors_test: NVML's and the driver's functions in
// one library.
#include <cstring>

extern "C" {

int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* handle, int ordinal) {
  *handle = 70 + ordinal;
  return ordinal == 0 ? 0 : 101;  // CUDA_ERROR_INVALID_DEVICE
}
int cuDeviceGetPCIBusId(char* address, int length, int handle) {
  std::strncpy(address, handle == 70 ? "0000:B1:00.0" : "", static_cast<std::size_t>(length));
  return 0;
}

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** device) {
  static int second = 0;
  *device = &second;
  return std::strcmp(address, "0000:B1:00.0") == 0 ? 0 : 6;  // NVML_ERROR_NOT_FOUND
}
int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* millijoules) {
  *millijoules = 123456;
  return 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* milliwatts) {
  *milliwatts = 700000;
  return 0;
}
int nvmlDeviceGetClockInfo(void*, int domain, unsigned* megahertz) {
  *megahertz = 1647;
  return domain == 1 ? 0 : 2;  // NVML_ERROR_INVALID_ARGUMENT
}
int nvmlDeviceGetViolationStatus(void*, int policy, unsigned long long* time) {
  time[0] = 1;
  time[1] = 2'500'000'000;
  return policy == 1 ? 0 : 3;  // NVML_ERROR_NOT_SUPPORTED
}

}  // extern "C"
