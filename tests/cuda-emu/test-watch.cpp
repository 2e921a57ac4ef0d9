/* test-watch.cpp - the stand-in that sees every access: what it counts, and which races it finds.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu.h"
#include "launch.h"

#include <glib.h>

#define N 256 /* threads, and elements */
#define SEEDS 20

static cudaStream_t stream;
static float *memory;

/* ---- kernels: each one right way, and the ways to get it wrong ---- */

static __global__ void
double_elements (float *x)
{
  x[blockIdx.x * blockDim.x + threadIdx.x] *= 2;
}

static __global__ void
read_quads (float *x)
{
  float4 v = valley_load_vector<float4> (x + 4 * (threadIdx.x % 8));

  x[N + threadIdx.x] = v.x + v.y + v.z + v.w;
}

static __global__ void
all_write_one (float *x)
{
  x[0] = 1;
}

static __global__ void
blocks_share (float *x)
{
  if (threadIdx.x == 0)
    x[blockIdx.x / 2] += 1;
}

static __global__ void
count_atomically (float *x)
{
  valley_atomic_add (x, 1.0f);
}

/* A block's sum through shared memory, with the barrier between or not. */
static __global__ void
pass_through_shared (float *x, bool barrier)
{
  VALLEY_SHARED (float, values, N);

  values[threadIdx.x] = x[threadIdx.x];
  if (barrier)
    valley_sync_block ();
  x[threadIdx.x] = values[(threadIdx.x + 64) % N];
}

enum Between { NOTHING, VOTE, WARP_BARRIER, HALF_BARRIER };

/* The same inside one warp. */
static __global__ void
pass_inside_warp (float *x, Between between)
{
  VALLEY_SHARED (float, values, VALLEY_WARP);
  unsigned half = threadIdx.x < 16 ? 0xffffu : 0xffff0000u;

  values[threadIdx.x] = x[threadIdx.x];
  if (between == WARP_BARRIER)
    valley_sync_warp (VALLEY_FULL_WARP);
  else if (between == HALF_BARRIER)
    valley_sync_warp (half);
  else if (between == VOTE)
    valley_any (VALLEY_FULL_WARP, true);
  x[threadIdx.x] = values[threadIdx.x ^ 1];
  if (between == HALF_BARRIER)
    x[threadIdx.x] = values[threadIdx.x ^ 16];
}

/* A second use of shared memory must wait for the first one's readers. */
static __global__ void
reuse_shared (float *x, bool barrier)
{
  VALLEY_SHARED (float, value, 1);

  for (int i = 0; i < 2; i++) {
    if (threadIdx.x == 0)
      value[0] = (float) i;
    valley_sync_block ();
    x[threadIdx.x] += value[0];
    if (barrier)
      valley_sync_block ();
  }
}

/* ---- races ---- */

static void
renew (void)
{
  g_assert_cmpint (cudaMalloc ((void **) &memory, 2 * N * sizeof *memory), ==, cudaSuccess);
  g_assert_cmpint (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking), ==, cudaSuccess);
  g_assert_cmpint (cudaMemsetAsync (memory, 0, 2 * N * sizeof *memory, stream), ==, cudaSuccess);
}

static void
release (void)
{
  g_assert_cmpint (cudaStreamDestroy (stream), ==, cudaSuccess);
  g_assert_cmpint (cudaFree (memory), ==, cudaSuccess);
}

/* One order of threads may hide what another shows; a right kernel is right in each. */
static void
expect_race (gboolean expected, void (*launch) (void))
{
  unsigned n_found = 0;

  for (unsigned seed = 1; seed <= SEEDS; seed++) {
    const char *words;

    emu_set_seed (seed);
    renew ();
    launch ();
    cudaStreamSynchronize (stream);
    words = emu_take_fault ();
    if (words != NULL && strstr (words, "race: ") == NULL)
      g_error ("expected a race or nothing, found: %s", words);
    n_found += words != NULL;
    if (words != NULL && !expected)
      g_error ("expected no race, found: %s", words);
    if (words != NULL)
      cudaDeviceReset ();
    else
      release ();
  }
  if (expected)
    g_assert_cmpuint (n_found, >, SEEDS / 2);
}

static void
test_races (void)
{
  emu_watch (true, false);
  expect_race (FALSE, [] { VALLEY_LAUNCH (double_elements, 2, N / 2, 0, stream, memory); });
  expect_race (TRUE, [] { VALLEY_LAUNCH (all_write_one, 1, 2, 0, stream, memory); });
  expect_race (TRUE, [] { VALLEY_LAUNCH (blocks_share, 4, 32, 0, stream, memory); });
  expect_race (FALSE, [] { VALLEY_LAUNCH (blocks_share, 1, 32, 0, stream, memory); });
  expect_race (FALSE, [] { VALLEY_LAUNCH (count_atomically, 4, 64, 0, stream, memory); });
  /* each launch ends the one before */
  expect_race (FALSE, [] {
    for (int i = 0; i < 3; i++)
      VALLEY_LAUNCH (double_elements, 2, N / 2, 0, stream, memory);
  });
}

static void
test_shared_races (void)
{
  emu_watch (true, false);
  expect_race (FALSE, [] { VALLEY_LAUNCH (pass_through_shared, 1, N, 0, stream, memory, true); });
  expect_race (FALSE, [] { VALLEY_LAUNCH (reuse_shared, 1, 64, 0, stream, memory, true); });
  expect_race (TRUE, [] { VALLEY_LAUNCH (pass_through_shared, 1, N, 0, stream, memory, false); });
  expect_race (TRUE, [] { VALLEY_LAUNCH (reuse_shared, 1, 64, 0, stream, memory, false); });
}

static void
test_warp_races (void)
{
  emu_watch (true, false);
  expect_race (FALSE,
               [] { VALLEY_LAUNCH (pass_inside_warp, 1, 32, 0, stream, memory, WARP_BARRIER); });
  expect_race (TRUE, [] { VALLEY_LAUNCH (pass_inside_warp, 1, 32, 0, stream, memory, NOTHING); });
  /* a vote makes threads meet, but orders no memory */
  expect_race (TRUE, [] { VALLEY_LAUNCH (pass_inside_warp, 1, 32, 0, stream, memory, VOTE); });
  /* orders neighbours, not the halves */
  expect_race (TRUE,
               [] { VALLEY_LAUNCH (pass_inside_warp, 1, 32, 0, stream, memory, HALF_BARRIER); });
}

/* ---- streams ---- */

typedef enum { NO_ORDER, BY_EVENT, BY_HOST, BY_WRONG_EVENT } Order;

static Order order;
static bool by_copy, reads_only;

/* Work in one stream, then in another. */
static void
two_streams (void)
{
  cudaStream_t other;
  cudaEvent_t event;

  g_assert_cmpint (cudaStreamCreateWithFlags (&other, cudaStreamNonBlocking), ==, cudaSuccess);
  g_assert_cmpint (cudaEventCreateWithFlags (&event, cudaEventDisableTiming), ==, cudaSuccess);
  cudaStreamSynchronize (stream); /* the memset */
  if (order == BY_WRONG_EVENT)
    cudaEventRecord (event, stream);
  if (!reads_only)
    VALLEY_LAUNCH (double_elements, 2, N / 2, 0, stream, memory);
  else
    VALLEY_LAUNCH (read_quads, 1, 32, 0, stream, memory);
  if (order == BY_EVENT)
    cudaEventRecord (event, stream);
  if (order == BY_HOST)
    cudaStreamSynchronize (stream);
  else if (order != NO_ORDER)
    cudaStreamWaitEvent (other, event, 0);
  if (by_copy)
    cudaMemcpyAsync (memory + N, memory + 2, 4, cudaMemcpyDeviceToDevice, other);
  else
    VALLEY_LAUNCH (double_elements, 1, 32, 0, other, reads_only ? memory + N + 32 : memory);
  cudaStreamSynchronize (other);
  cudaStreamSynchronize (stream);
  cudaEventDestroy (event);
  cudaStreamDestroy (other);
}

static void
test_streams (void)
{
  emu_watch (true, false);
  for (int copy = 0; copy < 2; copy++) {
    by_copy = copy;
    order = NO_ORDER;
    expect_race (TRUE, two_streams);
    order = BY_WRONG_EVENT;
    expect_race (TRUE, two_streams);
    order = BY_EVENT;
    expect_race (FALSE, two_streams);
    order = BY_HOST;
    expect_race (FALSE, two_streams);
  }
  /* both read the same, and write elsewhere */
  order = NO_ORDER;
  by_copy = false;
  reads_only = true;
  expect_race (FALSE, two_streams);
}

/* ---- counts ---- */

static void
expect_member (const char *name, guint64 value)
{
  g_autofree char *member = g_strdup_printf ("\"%s\": %" G_GUINT64_FORMAT, name, value);
  const char *json = emu_count_json (), *at = strstr (json, member);

  if (at == NULL || g_ascii_isdigit (at[strlen (member)]))
    g_error ("expected %s in %s", member, json);
}

static void
test_counts (void)
{
  emu_watch (false, true);
  renew ();
  emu_count_reset ();
  VALLEY_LAUNCH (double_elements, 2, N / 2, 0, stream, memory);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaSuccess);
  expect_member ("launches", 1);
  expect_member ("blocks", 2);
  expect_member ("threads", N);
  expect_member ("read", N * 4);
  expect_member ("read_distinct", N * 4);
  expect_member ("written", N * 4);
  expect_member ("written_distinct", N * 4);
  expect_member ("shared_read", 0);

  /* 256 threads read the same 128 bytes */
  emu_count_reset ();
  VALLEY_LAUNCH (read_quads, 1, N, 0, stream, memory);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaSuccess);
  expect_member ("read", N * 16);
  expect_member ("read_distinct", 128);
  expect_member ("written_distinct", N * 4);

  emu_count_reset ();
  VALLEY_LAUNCH (pass_through_shared, 1, N, 0, stream, memory, true);
  VALLEY_LAUNCH (count_atomically, 1, N, 0, stream, memory);
  g_assert_cmpint (cudaStreamSynchronize (stream), ==, cudaSuccess);
  expect_member ("shared_read", N * 4);
  expect_member ("shared_written", N * 4);
  expect_member ("atomics", N);
  release ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cuda-emu/watch/races", test_races);
  g_test_add_func ("/cuda-emu/watch/shared-races", test_shared_races);
  g_test_add_func ("/cuda-emu/watch/warp-races", test_warp_races);
  g_test_add_func ("/cuda-emu/watch/streams", test_streams);
  g_test_add_func ("/cuda-emu/watch/counts", test_counts);
  return g_test_run ();
}
