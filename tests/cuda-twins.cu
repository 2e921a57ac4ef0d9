/* cuda-twins.cu - cuda/mma.h's instructions against their twins in plain CUDA, and both against
 * a product computed here (TAP).  For a GPU:
 *
 *   nvcc -std=c++17 -O2 -arch=native -Icuda tests/cuda-twins.cu -o cuda-twins && ./cuda-twins
 *
 * and as C++ over tests/cuda-emu, where instructions are the stand-in's.  Whole numbers must come
 * out exactly; of others, a tensor core may round sums as it likes within f32.
 * SPDX-License-Identifier: Apache-2.0 */
#include "mma.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                                                \
  do {                                                                                             \
    int error_ = (call);                                                                           \
    if (error_ != cudaSuccess) {                                                                   \
      printf ("Bail out! %s: error %d\n", #call, error_);                                          \
      exit (1);                                                                                    \
    }                                                                                              \
  } while (0)

static cudaStream_t stream;
static int n_tests, n_failed;

static void
report (bool good, const char *name)
{
  n_tests++;
  n_failed += !good;
  printf ("%sok %d - %s\n", good ? "" : "not ", n_tests, name);
}

static uint32_t random_state;

static uint32_t
random_bits (void)
{
  random_state = random_state * 1664525u + 1013904223u;
  return random_state >> 8;
}

/* In units of 1/8, or in steps of nearly no size. */
static float
random_number (bool whole)
{
  float x = (float) ((int) (random_bits () % 65) - 32);

  return whole ? x / 8 : x / 7 + (float) (random_bits () % 1000) * 1e-4f;
}

/* ---- memory that the GPU and the host copy to each other ---- */

template <typename V> struct Both {
  V *device, *host;
  size_t n;
};

template <typename V>
static Both<V>
both_new (size_t n)
{
  Both<V> b = { NULL, (V *) calloc (n, sizeof (V)), n };

  CHECK (cudaMalloc ((void **) &b.device, n * sizeof (V)));
  return b;
}

template <typename V>
static void
to_device (const Both<V> &b)
{
  CHECK (cudaMemcpyAsync (b.device, b.host, b.n * sizeof (V), cudaMemcpyHostToDevice, stream));
  CHECK (cudaStreamSynchronize (stream));
}

template <typename V>
static void
to_host (const Both<V> &b)
{
  CHECK (cudaMemcpyAsync (b.host, b.device, b.n * sizeof (V), cudaMemcpyDeviceToHost, stream));
  CHECK (cudaStreamSynchronize (stream));
}

template <typename V>
static void
both_free (Both<V> *b)
{
  CHECK (cudaFree (b->device));
  free (b->host);
}

/* ---- products ---- */

/* Fragments by the layout that mma.h tells, straight from memory: a[16][16], b[16][8], c[16][8]. */
template <typename T>
static __device__ void
load_fragments (const T *a, const T *b, unsigned fa[4], unsigned fb[2])
{
  unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

  for (unsigned i = 0; i < 4; i++) {
    const T *p = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;

    fa[i] = p[0].bits | (unsigned) p[1].bits << 16;
  }
  for (unsigned i = 0; i < 2; i++) {
    const T *p = b + (2 * t + i * 8) * 8 + g;

    fb[i] = p[0].bits | (unsigned) p[8].bits << 16;
  }
}

template <typename T>
static __global__ void
multiply (const T *a, const T *b, float *c, float *c_twin)
{
  unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, fa[4], fb[2];
  float sum[4], twin[4];

  load_fragments (a, b, fa, fb);
  for (unsigned i = 0; i < 4; i++)
    sum[i] = twin[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  valley_mma<T> (sum, fa, fb);
  valley_mma_twin<T> (twin, fa, fb);
  for (unsigned i = 0; i < 4; i++) {
    unsigned at = (g + i / 2 * 8) * 8 + 2 * t + i % 2;

    c[at] = sum[i];
    c_twin[at] = twin[i];
  }
}

static float
value_of (ValleyBf16 x)
{
  uint32_t bits = (uint32_t) x.bits << 16;
  float value;

  memcpy (&value, &bits, sizeof value);
  return value;
}

static float
value_of (ValleyF16 x)
{
  int exponent = x.bits >> 10 & 31, fraction = x.bits & 0x3ff;
  float value = exponent == 0 ? ldexpf ((float) fraction, -24)
                              : ldexpf ((float) (fraction + 1024), exponent - 25);

  return x.bits & 0x8000 ? -value : value;
}

/* Cut off, not rounded: any number of the type will do. */
static void
make (ValleyBf16 *out, float x)
{
  uint32_t bits;

  memcpy (&bits, &x, sizeof bits);
  out->bits = (uint16_t) (bits >> 16);
}

static void
make (ValleyF16 *out, float x)
{
  int exponent;
  float fraction = frexpf (fabsf (x), &exponent);

  out->bits = 0;
  if (x != 0) /* none of them is as small as 2^-14 */
    out->bits = (uint16_t) ((x < 0 ? 0x8000 : 0) | (exponent + 14) << 10
                            | ((int) (fraction * 2048) & 0x3ff));
}

/* Whether all are within @tolerance of the product; equal with 0.  A NaN is not. */
template <typename T>
static bool
is_product (const float *got, const T *a, const T *b, const float *c, double tolerance)
{
  for (unsigned i = 0; i < 16; i++)
    for (unsigned j = 0; j < 8; j++) {
      double sum = c[i * 8 + j];

      for (unsigned k = 0; k < 16; k++)
        sum += (double) value_of (a[i * 16 + k]) * value_of (b[k * 8 + j]);
      if (!(fabs (got[i * 8 + j] - sum) <= tolerance)) {
        printf ("# (%u, %u) is %.9g, expected %.9g\n", i, j, got[i * 8 + j], sum);
        return false;
      }
    }
  return true;
}

template <typename T>
static void
test_products (const char *name, bool whole)
{
  Both<T> a = both_new<T> (256), b = both_new<T> (128);
  Both<float> c = both_new<float> (128), twin = both_new<float> (128);
  bool good = true;

  for (int round = 0; good && round < 20; round++) {
    float before[128];

    for (size_t i = 0; i < 256; i++)
      make (&a.host[i], random_number (whole));
    for (size_t i = 0; i < 128; i++) {
      make (&b.host[i], random_number (whole));
      before[i] = c.host[i] = random_number (whole);
    }
    to_device (a);
    to_device (b);
    to_device (c);
    VALLEY_LAUNCH (multiply<T>, 1, 32, 0, stream, a.device, b.device, c.device, twin.device);
    CHECK (cudaGetLastError ());
    to_host (c);
    to_host (twin);
    good = is_product (c.host, a.host, b.host, before, whole ? 0 : 1e-3)
           && is_product (twin.host, a.host, b.host, before, whole ? 0 : 1e-3);
#ifdef VALLEY_CUDA_EMU
    good = good && memcmp (c.host, twin.host, sizeof before) == 0;
#endif
  }
  report (good, name);
  both_free (&a);
  both_free (&b);
  both_free (&c);
  both_free (&twin);
}

/* ---- fragments from shared memory ---- */

#define ROWS 40u
#define COLS 24u /* of the tile; rows lie where they can be told apart */

/* out: [instruction, twin][transposed][lane][register] */
template <typename T>
static __global__ void
load_both (const T *elements, const unsigned *offsets, unsigned *out)
{
  VALLEY_SHARED (T, tile, ROWS * COLS);
  unsigned lane = threadIdx.x, r[4];

  for (unsigned i = lane; i < ROWS * COLS; i += VALLEY_WARP)
    tile[i] = elements[i];
  valley_sync_block ();
  valley_load_matrices<false> (r, tile, offsets[lane]);
  for (unsigned i = 0; i < 4; i++)
    out[0 * 128 + lane * 4 + i] = r[i];
  valley_load_matrices<true> (r, tile, offsets[lane]);
  for (unsigned i = 0; i < 4; i++)
    out[1 * 128 + lane * 4 + i] = r[i];
  valley_load_matrices_twin<false> (r, tile, offsets[lane]);
  for (unsigned i = 0; i < 4; i++)
    out[2 * 128 + lane * 4 + i] = r[i];
  valley_load_matrices_twin<true> (r, tile, offsets[lane]);
  for (unsigned i = 0; i < 4; i++)
    out[3 * 128 + lane * 4 + i] = r[i];
}

/* By the words of mma.h; an element is its own place in the tile. */
static unsigned
expected_pair (const unsigned *offsets, bool transposed, unsigned lane, unsigned matrix)
{
  unsigned g = lane / 4, t = lane % 4;
  const unsigned *rows = offsets + 8 * matrix;

  return transposed ? (rows[2 * t] + g) | (rows[2 * t + 1] + g) << 16
                    : (rows[g] + 2 * t) | (rows[g] + 2 * t + 1) << 16;
}

static void
test_fragments (void)
{
  Both<ValleyBf16> elements = both_new<ValleyBf16> (ROWS * COLS);
  Both<unsigned> offsets = both_new<unsigned> (32), out = both_new<unsigned> (4 * 128);
  bool good = true;

  for (unsigned i = 0; i < ROWS * COLS; i++)
    elements.host[i].bits = (uint16_t) i;
  for (unsigned i = 0; i < 32; i++)
    offsets.host[i] = random_bits () % (ROWS * COLS / 8) * 8;
  to_device (elements);
  to_device (offsets);
  VALLEY_LAUNCH (load_both<ValleyBf16>, 1, 32, 0, stream, elements.device, offsets.device,
                 out.device);
  CHECK (cudaGetLastError ());
  to_host (out);
  for (unsigned i = 0; i < 4 * 128; i++)
    if (out.host[i] != expected_pair (offsets.host, i / 128 % 2, i % 128 / 4, i % 4)) {
      printf ("# %s%s, lane %u, register %u: %#x\n", i < 256 ? "instruction" : "twin",
              i / 128 % 2 ? ", transposed" : "", i % 128 / 4, i % 4, out.host[i]);
      good = false;
      break;
    }
  report (good, "fragments");
  both_free (&elements);
  both_free (&offsets);
  both_free (&out);
}

/* ---- copies in the background ---- */

/* Two groups each way; every third piece is not there. */
template <typename T>
static __global__ void
copy_both (const T *from, T *to, T *twin)
{
  VALLEY_SHARED (T, tile, 64 * 8);
  VALLEY_SHARED (T, twin_tile, 64 * 8);
  unsigned i = threadIdx.x, other = (i + 5) % 32;

  valley_copy_async (tile, i * 8, from + i * 8, i % 3 != 0);
  valley_copy_commit ();
  valley_copy_async (tile, (i + 32) * 8, from + (i + 32) * 8, i % 3 != 0);
  valley_copy_commit ();
  valley_copy_async_twin (twin_tile, i * 8, from + i * 8, i % 3 != 0);
  valley_copy_async_twin (twin_tile, (i + 32) * 8, from + (i + 32) * 8, i % 3 != 0);
  valley_copy_wait<1> ();
  valley_sync_block ();
  valley_store_vector (to + other * 8, valley_load_vector<uint4> (&tile[other * 8]));
  valley_copy_wait<0> ();
  valley_sync_block ();
  valley_store_vector (to + (other + 32) * 8, valley_load_vector<uint4> (&tile[(other + 32) * 8]));
  valley_store_vector (twin + other * 8, valley_load_vector<uint4> (&twin_tile[other * 8]));
  valley_store_vector (twin + (other + 32) * 8,
                       valley_load_vector<uint4> (&twin_tile[(other + 32) * 8]));
}

static void
test_copies (void)
{
  Both<ValleyF16> from = both_new<ValleyF16> (512), to = both_new<ValleyF16> (512);
  Both<ValleyF16> twin = both_new<ValleyF16> (512);
  bool good = true;

  for (unsigned i = 0; i < 512; i++)
    from.host[i].bits = (uint16_t) (i + 1);
  to_device (from);
  VALLEY_LAUNCH (copy_both<ValleyF16>, 1, 32, 0, stream, from.device, to.device, twin.device);
  CHECK (cudaGetLastError ());
  to_host (to);
  to_host (twin);
  for (unsigned i = 0; i < 512; i++) {
    unsigned expected = i / 8 % 32 % 3 != 0 ? i + 1 : 0;

    good = good && to.host[i].bits == expected && twin.host[i].bits == expected;
  }
  report (good, "copies in the background");
  both_free (&from);
  both_free (&to);
  both_free (&twin);
}

/* ---- pairs ---- */

template <typename T>
static __global__ void
pack_both (const float *x, unsigned *out, unsigned *twin)
{
  unsigned i = blockIdx.x * 64 + threadIdx.x;

  out[i] = valley_pack<T> (x[2 * i], x[2 * i + 1]);
  twin[i] = valley_pack_twin<T> (x[2 * i], x[2 * i + 1]);
}

/* Numbers of all sizes and halfway between two of the type. */
template <typename T>
static void
test_pairs (const char *name)
{
  Both<float> x = both_new<float> (2 * 4096);
  Both<unsigned> out = both_new<unsigned> (4096), twin = both_new<unsigned> (4096);

  for (unsigned i = 0; i < 2 * 4096; i++) {
    uint32_t bits = random_bits () << 12 | (random_bits () & 0xfff);

    if (i % 3 == 0)
      bits = (bits & 0xffff0000) | 0x8000;
    if ((bits >> 23 & 0xff) == 0xff)
      bits &= 0xff800000; /* which NaN is nobody's business */
    memcpy (&x.host[i], &bits, sizeof bits);
  }
  to_device (x);
  VALLEY_LAUNCH (pack_both<T>, 64, 64, 0, stream, x.device, out.device, twin.device);
  CHECK (cudaGetLastError ());
  to_host (out);
  to_host (twin);
  report (memcmp (out.host, twin.host, 4096 * sizeof *out.host) == 0, name);
  both_free (&x);
  both_free (&out);
  both_free (&twin);
}

/* ---- powers of 2 ---- */

static __global__ void
raise_both (const float *x, float *out, float *twin)
{
  unsigned i = blockIdx.x * 64 + threadIdx.x;

  out[i] = valley_exp2 (x[i]);
  twin[i] = valley_exp2_twin (x[i]);
}

/* What attention asks for: nothing above 0, down to results that vanish. */
static void
test_powers (void)
{
  Both<float> x = both_new<float> (4096), out = both_new<float> (4096);
  Both<float> twin = both_new<float> (4096);
  bool good;

  x.host[0] = 0;
  x.host[1] = -INFINITY;
  for (unsigned i = 2; i < 4096; i++)
    x.host[i] = (float) (random_bits () % 100000) * (i % 2 ? -2e-3f : -1e-5f);
  to_device (x);
  VALLEY_LAUNCH (raise_both, 64, 64, 0, stream, x.device, out.device, twin.device);
  CHECK (cudaGetLastError ());
  to_host (out);
  to_host (twin);
  good = out.host[0] == 1 && out.host[1] == 0 && twin.host[0] == 1 && twin.host[1] == 0;
  for (unsigned i = 2; good && i < 4096; i++) {
    double want = exp2 ((double) x.host[i]);

    good = fabs (out.host[i] - want) <= 4e-7 * want + 1.2e-38
           && fabs (twin.host[i] - want) <= 4e-7 * want + 1.2e-38;
    if (!good)
      printf ("# 2^%.9g is %.9g and %.9g\n", x.host[i], out.host[i], twin.host[i]);
  }
  report (good, "powers of 2");
  both_free (&x);
  both_free (&out);
  both_free (&twin);
}

int
main (void)
{
  const char *seed = getenv ("VALLEY_TEST_SEED");

  random_state = seed != NULL ? (uint32_t) strtoul (seed, NULL, 10) : 20261124;
  printf ("# VALLEY_TEST_SEED=%u\n1..9\n", random_state);
  CHECK (cudaStreamCreateWithFlags (&stream, cudaStreamNonBlocking));
  test_products<ValleyBf16> ("bf16, whole numbers", true);
  test_products<ValleyF16> ("f16, whole numbers", true);
  test_products<ValleyBf16> ("bf16", false);
  test_products<ValleyF16> ("f16", false);
  test_fragments ();
  test_copies ();
  test_pairs<ValleyBf16> ("bf16 pairs");
  test_pairs<ValleyF16> ("f16 pairs");
  test_powers ();
  CHECK (cudaStreamDestroy (stream));
  return n_failed != 0;
}
