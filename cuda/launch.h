/* launch.h - the few words of CUDA that a plain C++ compiler lacks.
 *
 * Every launch, shared array, barrier, warp operation, vector access and atomic of this folder
 * goes through here, so that the same sources are built by nvcc for GPUs and by any C++
 * compiler for tests/cuda-emu, which runs them on the CPU and checks what a GPU would let pass.
 *
 * Warp operations name the lanes that take part; they are whole warps nearly everywhere
 * (VALLEY_FULL_WARP), so blocks are multiples of 32 threads.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#ifdef VALLEY_CUDA_EMU
#include "emu_device.h"
#else
#include <cuda_fp16.h>
#include <cuda_runtime.h>

/* VALLEY_LAUNCH (kernel, grid, block, bytes of dynamic shared memory, stream, arguments...) */
#define VALLEY_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                              \
  kernel<<<(grid), (block), (shared_bytes), (stream)>>> (__VA_ARGS__)

/* VALLEY_SHARED (float, sums, 32): `sums` is a ValleyShared<float> of 32 elements. */
template <typename T> using ValleyShared = T *;
#define VALLEY_SHARED(type, name, n)                                                               \
  __shared__ __align__ (16) type name##_storage[n];                                                \
  ValleyShared<type> name = name##_storage

/* The same bytes, as elements of another type. */
template <typename V, typename T>
static __device__ __forceinline__ ValleyShared<V>
valley_shared_as (ValleyShared<T> array)
{
  return reinterpret_cast<V *> (array);
}

/* What the launch asked for, as elements of one type. */
#define VALLEY_DYNAMIC_SHARED(type, name)                                                          \
  extern __shared__ __align__ (16) unsigned char valley_dynamic_shared[];                          \
  ValleyShared<type> name = reinterpret_cast<type *> (valley_dynamic_shared)

/* Every thread of the block, from the same line. */
#define valley_sync_block() __syncthreads ()
#define valley_sync_warp(lanes) __syncwarp (lanes)
#define valley_ballot(lanes, predicate) __ballot_sync (lanes, predicate)
#define valley_any(lanes, predicate) __any_sync (lanes, predicate)
#define valley_all(lanes, predicate) __all_sync (lanes, predicate)
#define valley_shuffle(lanes, value, from) __shfl_sync (lanes, value, from)
#define valley_shuffle_xor(lanes, value, bits) __shfl_xor_sync (lanes, value, bits)
#define valley_shuffle_down(lanes, value, by) __shfl_down_sync (lanes, value, by)

/* Before a loop whose array elements must stay in registers. */
#define VALLEY_UNROLL _Pragma ("unroll")
/* So many times only. */
#define VALLEY_UNROLL_BY(n) VALLEY_PRAGMA (unroll n)
#define VALLEY_PRAGMA(words) _Pragma (#words)

/* Returns what was there. */
#define valley_atomic_add(pointer, value) atomicAdd (pointer, value)
#define valley_atomic_max(pointer, value) atomicMax (pointer, value)
#define valley_atomic_or(pointer, value) atomicOr (pointer, value)

/* One access of sizeof (V) bytes; the address must be a multiple of that. */
template <typename V, typename T>
static __device__ __forceinline__ V
valley_load_vector (const T *p)
{
  return *reinterpret_cast<const V *> (p);
}

/* The same for what nobody reads again: it need not push other things out of the caches. */
template <typename V, typename T>
static __device__ __forceinline__ V
valley_load_once (const T *p)
{
  return __ldcs (reinterpret_cast<const V *> (p));
}

template <typename V, typename T>
static __device__ __forceinline__ void
valley_store_vector (T *p, V value)
{
  *reinterpret_cast<V *> (p) = value;
}
#endif

#define VALLEY_WARP 32
#define VALLEY_FULL_WARP 0xffffffffu
