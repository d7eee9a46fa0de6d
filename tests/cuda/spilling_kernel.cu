// A kernel that needs three times the registers that its block size leaves it: see CMakeLists.txt.
__global__ void __launch_bounds__(1024, 2) needs_many_registers(float* x, int n) {
  float values[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) values[i] = x[threadIdx.x + i * n];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) x[threadIdx.x * n + i * 7 % 96] = values[i] * values[(i * 5 + 3) % 96];
}
