// What a thread does to find its rows in a paged KV cache; only its machine code is looked at, to count instructions
// (CUDA 13.0):
//     nvcc -arch=sm_80 -cubin -o serving.cubin analysis/kernels/serving.cu && nvdisasm -c serving.cubin
// turbosim/schedules/paged.py has the counts.

#include <cstdint>

// One CTA a token: where it goes, then its K and V, 16 bytes a thread at a time, as far as there are any.
extern "C" __global__ void cache_write(const uint4* key, const uint4* value, uint4* key_cache, uint4* value_cache,
                                       const int64_t* slots, int64_t block_stride, int64_t page_stride,
                                       int64_t key_stride, int64_t value_stride, int vectors, int block_size) {
  const int64_t token = blockIdx.x;
  const int64_t slot = slots[token];
  if (slot < 0) return;
  const int64_t block = slot / block_size, offset = slot % block_size;
  const int64_t place = block * block_stride + offset * page_stride;
  const uint4 *k = key + token * key_stride, *v = value + token * value_stride;
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) key_cache[place + i] = k[i];
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) value_cache[place + i] = v[i];
}

// Where the rows of a thread begin in tile `tile` of a sequence: 16 rows a thread, 8 threads a row of 128 bytes.
extern "C" __global__ void page_address(const char* cache, const int* table, int64_t page_stride, int64_t row_stride,
                                        int page_size, int tile_rows, int tile, int64_t* out) {
  const int row = threadIdx.x / 8 * 16 + tile * tile_rows;
  const int page = row / page_size, offset = row % page_size;
  out[threadIdx.x] = (int64_t)(cache + table[page] * page_stride + offset * row_stride + threadIdx.x % 8 * 16);
}
