/* test-emu.cpp - the stand-in itself: each mistake that it is there to find is made here on
 * purpose and must be told in words that name it; each feature is used.
 * SPDX-License-Identifier: Apache-2.0 */
#include "launch.h"

#include "emu.h"

#include <glib.h>
#include <signal.h>
#include <string.h>

static cudaStream_t stream;

static void
begin (void)
{
  g_assert_cmpint (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking), ==, cudaSuccess);
}

static void
end (void)
{
  g_assert_cmpint (cudaStreamDestroy (stream), ==, cudaSuccess);
  g_assert_cmpstr (emu_take_fault (), ==, NULL);
  g_assert_cmpstr (emu_leaks (), ==, NULL);
}

template <typename T>
static T *
device_new (size_t n)
{
  void *pointer;

  g_assert_cmpint (cudaMalloc (&pointer, n * sizeof (T)), ==, cudaSuccess);
  return (T *) pointer;
}

template <typename T>
static void
read_back (T *host, const T *device, size_t n)
{
  g_assert_cmpint (cudaMemcpyAsync (host, device, n * sizeof (T), cudaMemcpyDeviceToHost, stream),
                   ==, cudaSuccess);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaSuccess);
}

/* The work so far must fail so; the device is reset then, as a program must. */
static void
expect_fault (cudaError_t error, const char *const *words)
{
  const char *fault;

  g_assert_cmpint (cudaStreamSynchronize (stream), ==, error);
  g_assert_cmpint (cudaGetLastError (), ==, error);
  fault = emu_take_fault ();
  g_assert_nonnull (fault);
  for (; *words != NULL; words++)
    if (strstr (fault, *words) == NULL)
      g_error ("expected '%s' in: %s", *words, fault);
  g_test_message ("%s", fault);
  g_assert_cmpint (cudaDeviceReset (), ==, cudaSuccess);
  g_assert_cmpint (cudaGetLastError (), ==, cudaSuccess);
  g_assert_cmpstr (emu_leaks (), ==, NULL);
}

#define EXPECT_FAULT(error, ...)                                                                   \
  do {                                                                                             \
    const char *expected[] = { __VA_ARGS__, NULL };                                                \
    expect_fault (error, expected);                                                                \
  } while (0)

/* ---- global memory ---- */

static __global__ void
write_one (float *p, ptrdiff_t at)
{
  p[at] = 1;
}

static __global__ void
read_one (float *to, const float *from, ptrdiff_t at)
{
  *to = from[at];
}

static void
test_bounds (void)
{
  static const struct {
    size_t n;
    ptrdiff_t at;
    const char *where;
  } cases[] = {
    { 1024, 1024, "write to 0 bytes past the end of allocation" },
    { 100, 128, "112 bytes past the end" },                     /* beyond the alignment */
    { 100, 100, "written 0 bytes past the end of allocation" }, /* within it: seen afterwards */
    { 100, -1, "written 4 bytes before the start of allocation" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++) {
    float *p;

    begin ();
    p = device_new<float> (cases[i].n);
    VALLEY_LAUNCH (write_one, 1, 1, 0, stream, p, cases[i].at);
    EXPECT_FAULT (cudaErrorIllegalAddress, "kernel write_one", cases[i].where);
  }
}

static void
test_reads (void)
{
  float *p, *q;

  begin ();
  p = device_new<float> (64);
  q = device_new<float> (64);
  VALLEY_LAUNCH (read_one, 1, 1, 0, stream, p, q, (ptrdiff_t) 70000);
  EXPECT_FAULT (cudaErrorIllegalAddress, "kernel read_one, block (0, 0, 0) thread (0, 0, 0)",
                "illegal address");

  begin ();
  p = device_new<float> (1);
  VALLEY_LAUNCH (read_one, 1, 1, 0, stream, p, (const float *) NULL, (ptrdiff_t) 0);
  EXPECT_FAULT (cudaErrorIllegalAddress, "not the device's");

  begin ();
  p = device_new<float> (1);
  q = device_new<float> (64);
  g_assert_cmpint (cudaFree (q), ==, cudaSuccess);
  VALLEY_LAUNCH (read_one, 1, 1, 0, stream, p, q, (ptrdiff_t) 3);
  EXPECT_FAULT (cudaErrorIllegalAddress, "byte 12 of allocation", "of 256 bytes",
                "which was freed");
}

static void
test_poison (void)
{
  float *p, host[3] = { 0 };

  begin ();
  p = device_new<float> (3);
  read_back (host, p, 3);
  for (float value : host)
    g_assert_true (value != value);
  cudaFree (p);
  end ();
}

static void
test_frees (void)
{
  float *p, host[2];

  begin ();
  p = device_new<float> (5);
  g_assert_nonnull (strstr (emu_leaks (), "of 20 bytes"));
  g_assert_cmpint (cudaFree (p + 1), ==, cudaErrorInvalidValue);
  g_assert_nonnull (strstr (emu_take_fault (), "no allocation begins there"));
  g_assert_cmpint (cudaFree (p), ==, cudaSuccess);
  g_assert_cmpint (cudaFree (p), ==, cudaErrorInvalidValue);
  g_assert_nonnull (strstr (emu_take_fault (), "was freed before"));
  cudaGetLastError ();
  end ();

  begin ();
  p = device_new<float> (1);
  cudaMemcpyAsync (host, p, sizeof host, cudaMemcpyDeviceToHost, stream);
  EXPECT_FAULT (cudaErrorIllegalAddress, "copy: 8 bytes from byte 0 of allocation", "of 4 bytes");
}

/* A program that leaves something, or that never looks at a fault, must not end well. */
static void
test_exit (void)
{
  if (g_test_subprocess ()) {
    device_new<float> (7);
    exit (0);
  }
  g_test_trap_subprocess (NULL, 0, (GTestSubprocessFlags) 0);
  g_test_trap_assert_failed ();
  g_test_trap_assert_stderr ("*never freed: allocation * of 28 bytes*");
}

static void
test_host_access (void)
{
  if (g_test_subprocess ()) {
    *device_new<float> (7) = 1;
    exit (0);
  }
  g_test_trap_subprocess (NULL, 0, (GTestSubprocessFlags) 0);
  g_test_trap_assert_failed ();
  g_test_trap_assert_stderr ("*the host touched device memory*");
}

/* Kernels open what they touch in a handler, also after somebody put back an older one. */
static void
test_handler (void)
{
  float *p, value = 0;

  begin ();
  p = device_new<float> (1);
  signal (SIGSEGV, SIG_DFL);
  VALLEY_LAUNCH (write_one, 1, 1, 0, stream, p, (ptrdiff_t) 0);
  read_back (&value, p, 1);
  g_assert_cmpfloat (value, ==, 1);
  g_assert_cmpint (cudaFree (p), ==, cudaSuccess);
  end ();
}

static void
test_out_of_memory (void)
{
  size_t available, total;
  void *p, *q;

  begin ();
  emu_set_device_bytes (10000);
  g_assert_cmpint (cudaMalloc (&p, 6000), ==, cudaSuccess);
  g_assert_cmpint (cudaMalloc (&q, 6000), ==, cudaErrorMemoryAllocation);
  g_assert_null (q);
  cudaMemGetInfo (&available, &total);
  g_assert_cmpuint (available, ==, 4000);
  cudaFree (p);
  g_assert_cmpint (cudaMalloc (&q, 6000), ==, cudaSuccess);
  cudaFree (q);
  emu_set_device_bytes ((size_t) 1 << 30);
  end ();
}

static __global__ void
add_fours (float *y, const float *x)
{
  float4 v = valley_load_vector<float4> (x + 4 * threadIdx.x);

  v.w += 1;
  valley_store_vector (y + 4 * threadIdx.x, v);
}

static void
test_vectors (void)
{
  float *p, host[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

  begin ();
  p = device_new<float> (12);
  cudaMemcpyAsync (p, host, sizeof host, cudaMemcpyHostToDevice, stream);
  VALLEY_LAUNCH (add_fours, 1, 2, 0, stream, p, p);
  read_back (host, p, 8);
  g_assert_cmpfloat (host[3], ==, 4);
  g_assert_cmpfloat (host[7], ==, 8);
  VALLEY_LAUNCH (add_fours, 1, 2, 0, stream, p, p + 1);
  EXPECT_FAULT (cudaErrorMisalignedAddress, "kernel add_fours", "a vector of 16 bytes",
                "4 more than");
}

/* ---- threads that meet ---- */

/* Each warp leaves its number for the next one. */
static __global__ void
pass_on (int *y, bool with_barrier)
{
  VALLEY_SHARED (int, left, 8);
  unsigned warp = threadIdx.x / 32;

  if (threadIdx.x % 32 == 0)
    left[warp] = (int) warp;
  if (with_barrier)
    valley_sync_block ();
  y[threadIdx.x] = left[(warp + 1) % 8];
}

static bool
is_passed_on (bool with_barrier)
{
  int host[256], *p;
  bool good = true;

  begin ();
  p = device_new<int> (256);
  VALLEY_LAUNCH (pass_on, 1, 256, 0, stream, p, with_barrier);
  read_back (host, p, 256);
  for (int i = 0; i < 256; i++)
    good = good && host[i] == (i / 32 + 1) % 8;
  cudaFree (p);
  end ();
  return good;
}

/* Without the barrier the values of some order of warps are not there yet. */
static void
test_barriers (void)
{
  for (int i = 0; i < 20; i++) {
    g_assert_true (is_passed_on (true));
    g_assert_false (is_passed_on (false));
  }
}

static __global__ void
part_ways (unsigned how)
{
  if (how == 0 && threadIdx.x == 5)
    return;
  if (how == 1 && threadIdx.x < 32)
    valley_sync_block ();
  else
    valley_sync_block ();
}

static void
test_divergence (void)
{
  begin ();
  VALLEY_LAUNCH (part_ways, 1, 64, 0, stream, 0u);
  EXPECT_FAULT (cudaErrorLaunchFailure, "kernel part_ways", "divergent barrier",
                "thread 5 has ended");
  begin ();
  VALLEY_LAUNCH (part_ways, 1, 64, 0, stream, 1u);
  EXPECT_FAULT (cudaErrorLaunchFailure, "divergent barrier: thread 0 waits for the block at",
                "but thread 32 waits for the block at");
}

static __global__ void
warp_words (unsigned *y)
{
  unsigned lane = threadIdx.x % 32, sum = lane;

  for (int bits = 16; bits > 0; bits /= 2)
    sum += valley_shuffle_xor (VALLEY_FULL_WARP, sum, bits);
  y[0 * 64 + threadIdx.x] = sum;
  y[1 * 64 + threadIdx.x] = valley_shuffle (VALLEY_FULL_WARP, lane, 7);
  y[2 * 64 + threadIdx.x] = valley_shuffle_down (VALLEY_FULL_WARP, lane, 3);
  y[3 * 64 + threadIdx.x] = valley_ballot (VALLEY_FULL_WARP, lane % 3 == 0);
  y[4 * 64 + threadIdx.x] = valley_any (VALLEY_FULL_WARP, lane == 9);
  y[5 * 64 + threadIdx.x] = valley_all (VALLEY_FULL_WARP, lane < 31);
  if (lane < 16) /* half a warp among itself */
    y[6 * 64 + threadIdx.x] = valley_shuffle_xor (0xffffu, lane, 1);
  else
    y[6 * 64 + threadIdx.x] = valley_shuffle_xor (0xffff0000u, lane, 2);
  valley_sync_warp (VALLEY_FULL_WARP);
  valley_atomic_add (&y[7 * 64], 1u);
  valley_atomic_max (&y[7 * 64 + 1], threadIdx.x);
}

static void
test_warps (void)
{
  unsigned *p, host[8 * 64];

  begin ();
  p = device_new<unsigned> (8 * 64);
  cudaMemsetAsync (p, 0, sizeof host, stream);
  VALLEY_LAUNCH (warp_words, 1, 64, 0, stream, p);
  read_back (host, p, 8 * 64);
  for (unsigned i = 0; i < 64; i++) {
    unsigned lane = i % 32;

    g_assert_cmpuint (host[i], ==, 496);
    g_assert_cmpuint (host[64 + i], ==, 7);
    g_assert_cmpuint (host[128 + i], ==, lane < 29 ? lane + 3 : lane);
    g_assert_cmpuint (host[192 + i], ==, 0x49249249);
    g_assert_cmpuint (host[256 + i], ==, 1);
    g_assert_cmpuint (host[320 + i], ==, 0);
    g_assert_cmpuint (host[384 + i], ==, lane < 16 ? (lane ^ 1) : (lane ^ 2));
  }
  g_assert_cmpuint (host[448], ==, 64);
  g_assert_cmpuint (host[449], ==, 63);
  cudaFree (p);
  end ();
}

static __global__ void
shuffle_wrongly (unsigned how)
{
  unsigned lane = threadIdx.x;

  if (how == 0 && lane == 3)
    return;
  if (how == 1)
    valley_shuffle (0xffu, lane, lane < 8 ? 0 : 1); /* lanes 8 ... call for others */
  else if (how == 2 && lane < 8)
    valley_shuffle (0xffu, lane, 9); /* takes no part */
  else if (how == 3 && lane % 2)
    valley_shuffle_xor (VALLEY_FULL_WARP, lane, 1); /* the others do not come here */
  else if (how == 3)
    valley_sync_block ();
  else if (how == 0 || how == 4)
    valley_shuffle_xor (VALLEY_FULL_WARP, lane, 1);
}

static void
test_missing_lanes (void)
{
  static const char *const words[] = { "thread 3 has ended", "not for itself", "reads lane 9",
                                       "waits for the block", "lane 20 does not exist" };

  for (unsigned how = 0; how < G_N_ELEMENTS (words); how++) {
    begin ();
    VALLEY_LAUNCH (shuffle_wrongly, 1, how == 4 ? 20 : 32, 0, stream, how);
    EXPECT_FAULT (cudaErrorLaunchFailure, "kernel shuffle_wrongly", words[how]);
  }
}

/* ---- shared memory ---- */

static __global__ void
use_shared (int *y, int n, int at)
{
  VALLEY_SHARED (int, fixed, 40);
  VALLEY_DYNAMIC_SHARED (int, asked_for);

  if (threadIdx.x == 0)
    fixed[n] = 5;
  asked_for[threadIdx.x + at] = (int) threadIdx.x;
  valley_sync_block ();
  y[threadIdx.x] = fixed[n] + asked_for[31 - threadIdx.x];
}

static __global__ void
use_too_much (void)
{
  VALLEY_SHARED (float, large, 13000);

  large[threadIdx.x] = 0;
}

/* As a vector's store might that begins inside. */
static __global__ void
write_behind (int *y, int n)
{
  VALLEY_SHARED (int, fixed, 8);
  int *p = &fixed[0];

  p[n] = 1;
  y[0] = p[n];
}

/* What one block left there no other finds. */
static __global__ void
keep (float *y, int from)
{
  VALLEY_SHARED (float, kept, 40);

  y[blockIdx.x] = kept[from];
  kept[from] = 1;
}

static void
test_shared_is_fresh (void)
{
  float *p, host[20];

  begin ();
  p = device_new<float> (20);
  for (int from = 0; from < 40; from += 39) {
    VALLEY_LAUNCH (keep, 20, 1, 0, stream, p, from);
    read_back (host, p, 20);
    for (float value : host)
      g_assert_true (value != value);
  }
  cudaFree (p);
  end ();
}

static void
test_behind_shared (void)
{
  for (int n = 8; n < 40; n += 31) {
    int *p;

    begin ();
    p = device_new<int> (1);
    VALLEY_LAUNCH (write_behind, 1, 1, 0, stream, p, 7);
    VALLEY_LAUNCH (write_behind, 1, 1, 0, stream, p, n);
    EXPECT_FAULT (cudaErrorIllegalAddress, "kernel write_behind",
                  n == 8 ? "written 0 bytes past the end of shared memory"
                         : "written 124 bytes past the end of shared memory");
  }
}

static void
test_shared (void)
{
  int *p, host[32];

  begin ();
  p = device_new<int> (32);
  VALLEY_LAUNCH (use_shared, 3, 32, 32 * sizeof (int), stream, p, 39, 0);
  read_back (host, p, 32);
  for (int i = 0; i < 32; i++)
    g_assert_cmpint (host[i], ==, 36 - i);
  VALLEY_LAUNCH (use_shared, 1, 32, 32 * sizeof (int), stream, p, 40, 0);
  EXPECT_FAULT (cudaErrorIllegalAddress, "kernel use_shared",
                "shared array fixed: element 40 of 40");
  begin ();
  p = device_new<int> (32);
  VALLEY_LAUNCH (use_shared, 1, 32, 32 * sizeof (int), stream, p, 39, 1);
  EXPECT_FAULT (cudaErrorIllegalAddress, "thread (31, 0, 0)",
                "shared array asked_for: element 32 of 32");

  begin ();
  VALLEY_LAUNCH (use_too_much, 1, 32, 0, stream);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaErrorInvalidConfiguration);
  g_assert_nonnull (strstr (emu_take_fault (), "static shared memory"));
  cudaGetLastError ();
  end ();
}

static void
test_configuration (void)
{
  int *p;

  begin ();
  p = device_new<int> (32);
  VALLEY_LAUNCH (use_shared, 0, 32, 0, stream, p, 0, 0);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorInvalidConfiguration);
  VALLEY_LAUNCH (use_shared, dim3 (1, 65536), 32, 0, stream, p, 0, 0);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorInvalidConfiguration);
  VALLEY_LAUNCH (use_shared, 1, 1025, 0, stream, p, 0, 0);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorInvalidConfiguration);
  VALLEY_LAUNCH (use_shared, 1, 32, 50000, stream, p, 0, 0);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorInvalidConfiguration);
  g_assert_nonnull (strstr (emu_take_fault (), "kernel use_shared: 0 x 1 x 1 blocks"));
  VALLEY_LAUNCH (use_shared, 1, 32, 128, (cudaStream_t) NULL, p, 0, 0);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorInvalidResourceHandle);
  g_assert_nonnull (strstr (emu_take_fault (), "default stream"));
  g_assert_cmpint (cudaGetLastError (), ==, cudaSuccess); /* told once */
  cudaFree (p);
  end ();
}

/* Every thread of an odd-shaped launch has a place of its own. */
static __global__ void
count_places (unsigned *counts)
{
  unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);

  valley_atomic_add (&counts[block * blockDim.x * blockDim.y * blockDim.z + thread], 1u);
}

static void
test_places (void)
{
  unsigned *p, host[2 * 3 * 4 * 5 * 2 * 3];

  begin ();
  p = device_new<unsigned> (G_N_ELEMENTS (host));
  cudaMemsetAsync (p, 0, sizeof host, stream);
  VALLEY_LAUNCH (count_places, dim3 (2, 3, 4), dim3 (5, 2, 3), 0, stream, p);
  read_back (host, p, G_N_ELEMENTS (host));
  for (unsigned count : host)
    g_assert_cmpuint (count, ==, 1);
  cudaFree (p);
  end ();
}

/* ---- what a warp does as one, and copies that are waited for ---- */

static void
add_all (void *const own[32])
{
  unsigned sum = 0;

  for (int i = 0; i < 32; i++)
    sum += *(unsigned *) own[i];
  for (int i = 0; i < 32; i++)
    *(unsigned *) own[i] = sum + i;
}

static __global__ void
work_as_one (unsigned *y, unsigned n)
{
  unsigned x = threadIdx.x;

  if (threadIdx.x < n)
    emu_warp_together (add_all, &x, __FILE__, __LINE__);
  y[threadIdx.x] = x;
}

static void
test_together (void)
{
  unsigned *p, host[64];

  begin ();
  p = device_new<unsigned> (64);
  VALLEY_LAUNCH (work_as_one, 1, 64, 0, stream, p, 64u);
  read_back (host, p, 64);
  for (unsigned i = 0; i < 64; i++)
    g_assert_cmpuint (host[i], ==, 496 + i / 32 * 1024 + i % 32);
  VALLEY_LAUNCH (work_as_one, 1, 64, 0, stream, p, 40u);
  EXPECT_FAULT (cudaErrorLaunchFailure, "kernel work_as_one", "computes with its warp",
                "thread 40 has ended");
}

/* Each thread fetches four numbers, then four others; @wait: for how many groups it does not. */
static __global__ void
fetch (float *y, const float *x, int wait, size_t offset)
{
  VALLEY_SHARED (float, tile, 8 * 32);
  unsigned i = 4 * threadIdx.x;

  emu_copy_async (&tile[i], x + i + offset, 16);
  emu_copy_commit ();
  emu_copy_async (&tile[i + 128], NULL, 16);
  emu_copy_commit ();
  if (wait >= 0)
    emu_copy_wait ((unsigned) wait);
  y[i] = tile[i];
  y[i + 128] = tile[i + 128];
  if (wait > 0)
    emu_copy_wait (0);
}

/* Whether all numbers of the two groups were there. */
static void
fetch_all (int wait, bool good[2])
{
  float *p, host[256];

  begin ();
  p = device_new<float> (256);
  for (int i = 0; i < 256; i++)
    host[i] = (float) i;
  cudaMemcpyAsync (p, host, sizeof host, cudaMemcpyHostToDevice, stream);
  VALLEY_LAUNCH (fetch, 1, 32, 0, stream, p, p, wait, (size_t) 0);
  read_back (host, p, 256);
  good[0] = good[1] = true;
  for (int i = 0; i < 128; i += 4) {
    good[0] = good[0] && host[i] == (float) i;
    good[1] = good[1] && host[i + 128] == 0;
  }
  cudaFree (p);
  end ();
}

static void
test_async (void)
{
  float *p;
  bool good[2];

  for (int i = 0; i < 10; i++) {
    fetch_all (0, good);
    g_assert_true (good[0] && good[1]);
    fetch_all (1, good);
    g_assert_true (good[0]);
    g_assert_false (good[1]); /* nobody waited: some are there, some are not */
  }
  begin ();
  p = device_new<float> (256);
  cudaMemsetAsync (p, 0, 256 * sizeof *p, stream);
  VALLEY_LAUNCH (fetch, 1, 32, 0, stream, p, p, -1, (size_t) 0);
  EXPECT_FAULT (cudaErrorLaunchFailure, "kernel fetch", "never waited for 2 copies");
  begin ();
  p = device_new<float> (256);
  VALLEY_LAUNCH (fetch, 1, 32, 0, stream, p, p, 0, (size_t) 2);
  EXPECT_FAULT (cudaErrorMisalignedAddress, "kernel fetch", "16 bytes from a misaligned address");
}

/* ---- streams ---- */

static __global__ void
store (int *p, int value)
{
  *p = value;
}

static __global__ void
copy_int (int *to, const int *from)
{
  *to = *from;
}

/* One stream writes, another reads; @ordered by an event.  What was read. */
static int
across_streams (bool ordered)
{
  cudaStream_t other;
  cudaEvent_t event;
  int *p, *q, host = -2;

  begin ();
  cudaStreamCreateWithFlags (&other, cudaStreamNonBlocking);
  cudaEventCreateWithFlags (&event, cudaEventDisableTiming | cudaEventBlockingSync);
  p = device_new<int> (1);
  q = device_new<int> (1);
  VALLEY_LAUNCH (store, 1, 1, 0, other, p, 77);
  cudaEventRecord (event, other);
  if (ordered)
    cudaStreamWaitEvent (stream, event, 0);
  VALLEY_LAUNCH (copy_int, 1, 1, 0, stream, q, p);
  read_back (&host, q, 1);
  g_assert_cmpint (cudaEventSynchronize (event), ==, cudaSuccess);
  g_assert_cmpint (cudaEventQuery (event), ==, cudaSuccess);
  g_assert_cmpint (cudaDeviceSynchronize (), ==, cudaSuccess);
  g_assert_cmpint (cudaStreamQuery (other), ==, cudaSuccess);
  cudaEventDestroy (event);
  cudaStreamDestroy (other);
  cudaFree (p);
  cudaFree (q);
  end ();
  return host;
}

static void
test_streams (void)
{
  int n_early = 0;

  for (int i = 0; i < 200; i++) {
    g_assert_cmpint (across_streams (true), ==, 77);
    n_early += across_streams (false) != 77;
  }
  g_test_message ("read too early in %d of 200 runs without an event", n_early);
  g_assert_cmpint (n_early, >, 0);
  g_assert_cmpint (n_early, <, 200); /* a race is not lost every time */
}

static void
set_flag (void *data)
{
  *(int *) data = 1;
}

/* What is read before the stream was waited for, or written into pinned memory too soon, shows. */
static void
test_copies (void)
{
  int n_early = 0, n_overwritten = 0, *p, *pinned, flag = 0;

  begin ();
  p = device_new<int> (1);
  g_assert_cmpint (cudaMallocHost ((void **) &pinned, sizeof *pinned), ==, cudaSuccess);
  for (int i = 0; i < 40; i++) {
    int host = -2, pageable = i;

    cudaMemcpyAsync (p, &pageable, sizeof pageable, cudaMemcpyHostToDevice, stream);
    pageable = -3; /* was staged */
    cudaMemcpyAsync (&host, p, sizeof host, cudaMemcpyDeviceToHost, stream);
    n_early += host != i;
    cudaStreamSynchronize (stream);
    g_assert_cmpint (host, ==, i);

    *pinned = i;
    cudaMemcpyAsync (p, pinned, sizeof *pinned, cudaMemcpyHostToDevice, stream);
    *pinned = -4;
    read_back (&host, p, 1);
    n_overwritten += host == -4;
  }
  g_assert_cmpint (n_early, >, 0);
  g_assert_cmpint (n_overwritten, >, 0);
  cudaLaunchHostFunc (stream, set_flag, &flag);
  cudaStreamSynchronize (stream);
  g_assert_cmpint (flag, ==, 1);
  cudaFreeHost (pinned);
  cudaFree (p);
  end ();
}

/* ---- graphs ---- */

static __global__ void
add_to (int *p, const int *step)
{
  *p += *step;
}

static void
test_graphs (void)
{
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  int *p, *step, host = 0, one = 1;

  begin ();
  p = device_new<int> (1);
  step = device_new<int> (1);
  cudaMemsetAsync (p, 0, sizeof *p, stream);
  g_assert_cmpint (cudaStreamBeginCapture (stream, cudaStreamCaptureModeThreadLocal), ==,
                   cudaSuccess);
  cudaMemcpyAsync (step, &one, sizeof one, cudaMemcpyHostToDevice, stream);
  VALLEY_LAUNCH (add_to, 1, 1, 0, stream, p, step);
  VALLEY_LAUNCH (add_to, 1, 1, 0, stream, p, step);
  g_assert_cmpint (cudaStreamEndCapture (stream, &graph), ==, cudaSuccess);
  g_assert_cmpint (cudaGraphInstantiate (&exec, graph, 0), ==, cudaSuccess);
  cudaGraphDestroy (graph);
  read_back (&host, p, 1);
  g_assert_cmpint (host, ==, 0); /* recorded, not run */
  for (one = 1; one <= 3; one++) {
    g_assert_cmpint (cudaGraphLaunch (exec, stream), ==, cudaSuccess);
    cudaStreamSynchronize (stream); /* @one is read at each launch */
  }
  read_back (&host, p, 1);
  g_assert_cmpint (host, ==, 2 * (1 + 2 + 3));
  cudaGraphExecDestroy (exec);

  cudaStreamBeginCapture (stream, cudaStreamCaptureModeThreadLocal);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaErrorStreamCaptureUnsupported);
  g_assert_cmpint (cudaStreamEndCapture (stream, &graph), ==, cudaErrorStreamCaptureInvalidated);
  cudaGetLastError ();
  cudaFree (p);
  cudaFree (step);
  end ();
}

/* After a fault nothing works until the device is reset. */
static void
test_sticky (void)
{
  float *p;
  void *q;

  begin ();
  p = device_new<float> (4);
  VALLEY_LAUNCH (write_one, 1, 1, 0, stream, p, (ptrdiff_t) 1 << 20);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaErrorIllegalAddress);
  g_assert_cmpint (cudaMalloc (&q, 8), ==, cudaErrorIllegalAddress);
  VALLEY_LAUNCH (write_one, 1, 1, 0, stream, p, (ptrdiff_t) 0);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorIllegalAddress);
  g_assert_cmpint (cudaGetLastError (), ==, cudaErrorIllegalAddress);
  EXPECT_FAULT (cudaErrorIllegalAddress, "kernel write_one");
  test_poison ();
}

int
main (int argc, char **argv)
{
  const char *text = g_getenv ("VALLEY_TEST_SEED");
  guint32 seed = text != NULL ? (guint32) g_ascii_strtoull (text, NULL, 10) : g_random_int ();

  g_test_init (&argc, &argv, NULL);
  g_test_message ("VALLEY_TEST_SEED=%u", seed);
  emu_set_seed (seed);
  g_test_add_func ("/emu/bounds", test_bounds);
  g_test_add_func ("/emu/reads", test_reads);
  g_test_add_func ("/emu/poison", test_poison);
  g_test_add_func ("/emu/frees", test_frees);
  g_test_add_func ("/emu/exit", test_exit);
  g_test_add_func ("/emu/host-access", test_host_access);
  g_test_add_func ("/emu/handler", test_handler);
  g_test_add_func ("/emu/out-of-memory", test_out_of_memory);
  g_test_add_func ("/emu/vectors", test_vectors);
  g_test_add_func ("/emu/barriers", test_barriers);
  g_test_add_func ("/emu/divergence", test_divergence);
  g_test_add_func ("/emu/warps", test_warps);
  g_test_add_func ("/emu/missing-lanes", test_missing_lanes);
  g_test_add_func ("/emu/shared", test_shared);
  g_test_add_func ("/emu/shared-is-fresh", test_shared_is_fresh);
  g_test_add_func ("/emu/behind-shared", test_behind_shared);
  g_test_add_func ("/emu/configuration", test_configuration);
  g_test_add_func ("/emu/places", test_places);
  g_test_add_func ("/emu/together", test_together);
  g_test_add_func ("/emu/async", test_async);
  g_test_add_func ("/emu/streams", test_streams);
  g_test_add_func ("/emu/copies", test_copies);
  g_test_add_func ("/emu/graphs", test_graphs);
  g_test_add_func ("/emu/sticky", test_sticky);
  return g_test_run ();
}
