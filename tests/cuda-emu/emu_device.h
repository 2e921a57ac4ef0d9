/* emu_device.h - cuda/launch.h's words for a C++ compiler: what kernels see of the stand-in.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cuda_runtime.h"
#include "watch.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define VALLEY_UNROLL
#define VALLEY_UNROLL_BY(n)

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  dim3 (unsigned x = 1, unsigned y = 1, unsigned z = 1) : x (x), y (y), z (z) {}
};

struct alignas (16) float4 {
  float x, y, z, w;
};

struct alignas (8) uint2 {
  unsigned x, y;
};

struct alignas (16) uint4 {
  unsigned x, y, z, w;
};

static inline float4
make_float4 (float x, float y, float z, float w)
{
  return { x, y, z, w };
}

static inline uint2
make_uint2 (unsigned x, unsigned y)
{
  return { x, y };
}

static inline float
__uint_as_float (unsigned bits)
{
  float x;

  memcpy (&x, &bits, sizeof x);
  return x;
}

static inline unsigned
__float_as_uint (float x)
{
  unsigned bits;

  memcpy (&bits, &x, sizeof bits);
  return bits;
}

static inline long long
__double_as_longlong (double x)
{
  long long bits;

  memcpy (&bits, &x, sizeof bits);
  return bits;
}

static inline double
__longlong_as_double (long long bits)
{
  double x;

  memcpy (&x, &bits, sizeof x);
  return x;
}

/* The number of zeros before the first bit that is set. */
static inline int
__clzll (long long x)
{
  return x == 0 ? 64 : __builtin_clzll ((unsigned long long) x);
}

/* The upper half of the product. */
static inline unsigned long long
__umul64hi (unsigned long long a, unsigned long long b)
{
  return (unsigned long long) (((unsigned __int128) a * b) >> 64);
}

/* The thread that runs now. */
struct EmuPlace {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern EmuPlace emu_place;

#define threadIdx (emu_place.thread)
#define blockIdx (emu_place.block)
#define blockDim (emu_place.block_size)
#define gridDim (emu_place.grid_size)

/* Where in the source something was asked for: two different lines are two different barriers. */
#define EMU_LINE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* Ends the kernel: the stream's error, and emu_take_fault's words. */
[[noreturn]] void emu_kernel_fault (cudaError_t error, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

void emu_enqueue_launch (const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                         cudaStream_t stream, std::function<void ()> body);

/* By value, as a launch copies its arguments. */
#define VALLEY_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                              \
  emu_enqueue_launch (#kernel, grid, block, shared_bytes, stream, [=] { kernel (__VA_ARGS__); })

/* ---- shared memory ---- */

/* The block's array for one line of the source; the first thread that gets there makes it. */
void *emu_shared_array (const char *file, int line, size_t bytes);
void *emu_dynamic_shared (size_t *bytes);

template <typename T> struct ValleyShared {
  T *data;
  size_t n;
  const char *name;

  T &
  operator[] (size_t i) const
  {
    if (i >= n)
      emu_kernel_fault (cudaErrorIllegalAddress, "shared array %s: element %zd of %zu", name,
                        (ptrdiff_t) i, n);
    return data[i];
  }
};

#define VALLEY_SHARED(type, name, n)                                                               \
  ValleyShared<type> name                                                                          \
  {                                                                                                \
    (type *) emu_shared_array (__FILE__, __LINE__, (n) * sizeof (type)), (size_t) (n), #name       \
  }

template <typename V, typename T>
static inline ValleyShared<V>
valley_shared_as (ValleyShared<T> array)
{
  return { (V *) array.data, array.n * sizeof (T) / sizeof (V), array.name };
}

template <typename T>
static inline ValleyShared<T>
emu_dynamic_shared_as (const char *name)
{
  size_t bytes;
  T *data = (T *) emu_dynamic_shared (&bytes);

  return { data, bytes / sizeof (T), name };
}

#define VALLEY_DYNAMIC_SHARED(type, name)                                                          \
  ValleyShared<type> name = emu_dynamic_shared_as<type> (#name)

/* ---- threads that meet ---- */

typedef enum { EMU_SYNC, EMU_BALLOT, EMU_TOGETHER, EMU_FROM, EMU_XOR, EMU_DOWN } EmuWarpCall;

void valley_sync_block (EMU_LINE);
/* Waits for @lanes to make the same call, and returns @value of the lane that @argument means. */
uint64_t emu_warp_call (EmuWarpCall call, unsigned lanes, uint64_t value, int argument,
                        const char *file, int line);

/* What the hardware does for a whole warp at once: @work runs once, when all lanes are there, with
 * what each of them gave.  It must not fault. */
typedef void (*EmuWarpWork) (void *const own[32]);
void emu_warp_together (EmuWarpWork work, void *own, const char *file, int line);

static inline void
valley_sync_warp (unsigned lanes, EMU_LINE)
{
  emu_warp_call (EMU_SYNC, lanes, 0, 0, file, line);
}

static inline unsigned
valley_ballot (unsigned lanes, bool predicate, EMU_LINE)
{
  return (unsigned) emu_warp_call (EMU_BALLOT, lanes, predicate, 0, file, line);
}

static inline bool
valley_any (unsigned lanes, bool predicate, EMU_LINE)
{
  return valley_ballot (lanes, predicate, file, line) != 0;
}

static inline bool
valley_all (unsigned lanes, bool predicate, EMU_LINE)
{
  return valley_ballot (lanes, predicate, file, line) == lanes;
}

template <typename T>
static inline T
emu_shuffle (EmuWarpCall call, unsigned lanes, T value, int argument, const char *file, int line)
{
  uint64_t bits = 0;
  T result;

  static_assert (sizeof (T) == 4 || sizeof (T) == 8, "shuffles move 4 or 8 bytes");
  memcpy (&bits, &value, sizeof value);
  bits = emu_warp_call (call, lanes, bits, argument, file, line);
  memcpy (&result, &bits, sizeof result);
  return result;
}

template <typename T>
static inline T
valley_shuffle (unsigned lanes, T value, int from, EMU_LINE)
{
  return emu_shuffle (EMU_FROM, lanes, value, from, file, line);
}

template <typename T>
static inline T
valley_shuffle_xor (unsigned lanes, T value, int bits, EMU_LINE)
{
  return emu_shuffle (EMU_XOR, lanes, value, bits, file, line);
}

template <typename T>
static inline T
valley_shuffle_down (unsigned lanes, T value, int by, EMU_LINE)
{
  return emu_shuffle (EMU_DOWN, lanes, value, by, file, line);
}

/* ---- async.cpp: copies that a thread waits for later ---- */

/* To shared memory; @from NULL: zeros.  @bytes is also the alignment. */
void emu_copy_async (void *to, const void *from, size_t bytes);
/* The copies since the last call are a group. */
void emu_copy_commit (void);
/* Until all but the last @n_left groups are there. */
void emu_copy_wait (unsigned n_left);

/* ---- memory ---- */

/* Threads run one at a time, so plain arithmetic is atomic here. */
template <typename T, typename Change>
static EMU_UNWATCHED T
emu_atomic (T *pointer, Change change)
{
  T old = *pointer;

  emu_watch_atomic (pointer, sizeof old);
  *pointer = change (old);
  return old;
}

template <typename T>
static inline T
valley_atomic_add (T *pointer, T value)
{
  return emu_atomic (pointer, [=] (T old) { return old + value; });
}

template <typename T>
static inline T
valley_atomic_max (T *pointer, T value)
{
  return emu_atomic (pointer, [=] (T old) { return old > value ? old : value; });
}

template <typename T>
static inline T
valley_atomic_or (T *pointer, T value)
{
  return emu_atomic (pointer, [=] (T old) { return old | value; });
}

template <typename V>
static inline void
emu_check_alignment (const void *p)
{
  if ((uintptr_t) p % sizeof (V) != 0)
    emu_kernel_fault (cudaErrorMisalignedAddress,
                      "a vector of %zu bytes at an address that is %zu "
                      "more than a multiple of that",
                      sizeof (V), (size_t) p % sizeof (V));
}

template <typename V, typename T>
static inline V
valley_load_vector (const T *p)
{
  V value;

  emu_check_alignment<V> (p);
  memcpy (&value, p, sizeof value);
  return value;
}

template <typename V, typename T>
static inline V
valley_load_once (const T *p)
{
  return valley_load_vector<V> (p);
}

template <typename V, typename T>
static inline void
valley_store_vector (T *p, V value)
{
  emu_check_alignment<V> (p);
  memcpy (p, &value, sizeof value);
}
