/* draw.cu - draws tokens at a temperature: top-k, top-p, then the draw itself, each a walk from
 * the likeliest candidate on until enough of them, or enough of their mass, was passed.
 *
 * Nothing is sorted.  Candidates are put in bins by their distance from the best; the walk skips
 * whole bins, then looks closer into one, by the bits in which its candidates differ.  Masses are
 * integers (2^40 for the likeliest), so their sums are the same in any order, and what is drawn
 * never depends on which block or thread came first.
 * SPDX-License-Identifier: Apache-2.0 */
#include "pick.h"

#define WALK_THREADS 512
#define BINS_PER_UNIT 32           /* of distance; from 28.4 on masses are 0, at 32 the bins end */
#define WHOLE_MASS 1099511627776.0 /* 2^40: the likeliest candidate's */

/* A row's candidates, bin after bin, in no order within one. */
struct Lists {
  ValleyMass *keys; /* the distance's bits: the lower the likelier */
  uint32_t *ids;
};

size_t
valley_pick_list_bytes (size_t rows, size_t cols)
{
  return rows * cols * (sizeof (ValleyMass) + sizeof (uint32_t));
}

/* Distances are divided by the temperature, not scores, as on the CPU; they rank like their
 * bits. */
static __device__ __forceinline__ double
distance_of (double score, double best, double temperature)
{
  return fabs ((score - best) / temperature);
}

static __device__ __forceinline__ ValleyMass
mass_of (double distance)
{
  return (ValleyMass) (exp (-distance) * WHOLE_MASS + 0.5);
}

static __device__ __forceinline__ unsigned
bin_of (double distance)
{
  return distance < VALLEY_PICK_BINS / BINS_PER_UNIT ? (unsigned) (distance * BINS_PER_UNIT)
                                                     : VALLEY_PICK_BINS - 1;
}

/* Word @place of the block's piece: its distance, infinite when it is no candidate. */
static __device__ __forceinline__ double
piece_distance (const ValleyPickRows &rows, ValleyShared<unsigned> seen, unsigned place,
                double best, double temperature)
{
  size_t i = (size_t) blockIdx.x * VALLEY_PICK_PIECE + place;
  bool is_seen = (seen[place / 32] >> place % 32 & 1) != 0;

  if (i >= rows.n || !valley_pick_is_allowed (rows, i))
    return INFINITY;
  return distance_of (
      valley_pick_score (rows.logits[blockIdx.y * rows.stride + i], is_seen, rows.penalty), best,
      temperature);
}

/* ---- filling the bins ---- */

static __global__ void
__launch_bounds__ (VALLEY_PICK_THREADS)
    count_bins (ValleyPickBins *bins, const ValleyPickFound *found, const ValleyPickRows rows,
                double temperature)
{
  VALLEY_SHARED (unsigned, seen, VALLEY_PICK_PIECE / 32);
  VALLEY_SHARED (ValleyMass, masses, VALLEY_PICK_BINS);
  VALLEY_SHARED (uint32_t, counts, VALLEY_PICK_BINS);
  ValleyPickBins *row = bins + blockIdx.y;
  double best = found[blockIdx.y].best;

  if (found[blockIdx.y].id < 0)
    return;
  for (unsigned i = threadIdx.x; i < VALLEY_PICK_BINS; i += blockDim.x)
    masses[i] = counts[i] = 0;
  valley_pick_load_seen (rows, seen);
  for (unsigned place = threadIdx.x; place < VALLEY_PICK_PIECE; place += blockDim.x) {
    double distance = piece_distance (rows, seen, place, best, temperature);

    if (distance == INFINITY)
      continue;
    valley_atomic_add (&masses[bin_of (distance)], mass_of (distance));
    valley_atomic_add (&counts[bin_of (distance)], 1u);
  }
  valley_sync_block ();
  for (unsigned i = threadIdx.x; i < VALLEY_PICK_BINS; i += blockDim.x)
    if (counts[i] > 0) {
      valley_atomic_add (&row->masses[i], masses[i]);
      valley_atomic_add (&row->counts[i], counts[i]);
    }
}

/* The sum of the @value of all threads before this one.  @partial as valley_block_sum's. */
static __device__ ValleyMass
sum_before (ValleyShared<ValleyMass> partial, ValleyMass value)
{
  unsigned lane = threadIdx.x % VALLEY_WARP, warp = threadIdx.x / VALLEY_WARP;
  ValleyMass sum = value;

  for (unsigned by = 1; by < VALLEY_WARP; by *= 2) {
    ValleyMass left = valley_shuffle (VALLEY_FULL_WARP, sum, (int) (lane < by ? lane : lane - by));

    if (lane >= by)
      sum += left;
  }
  if (lane == VALLEY_WARP - 1)
    partial[warp] = sum;
  valley_sync_block ();
  sum -= value;
  for (unsigned i = 0; i < warp; i++)
    sum += partial[i];
  valley_sync_block ();
  return sum;
}

static __global__ void
__launch_bounds__ (VALLEY_PICK_THREADS)
    fill_lists (Lists lists, ValleyPickBins *bins, const ValleyPickFound *found,
                const ValleyPickRows rows, double temperature)
{
  enum { OWN = VALLEY_PICK_BINS / VALLEY_PICK_THREADS };
  VALLEY_SHARED (unsigned, seen, VALLEY_PICK_PIECE / 32);
  VALLEY_SHARED (ValleyMass, partial, VALLEY_MAX_WARPS);
  VALLEY_SHARED (uint32_t, starts, VALLEY_PICK_BINS);
  ValleyPickBins *row = bins + blockIdx.y;
  double best = found[blockIdx.y].best;
  uint32_t start, own = 0;

  if (found[blockIdx.y].id < 0)
    return;
  for (unsigned i = 0; i < OWN; i++)
    own += row->counts[OWN * threadIdx.x + i];
  start = (uint32_t) sum_before (partial, own);
  for (unsigned i = 0; i < OWN; i++) {
    starts[OWN * threadIdx.x + i] = start;
    start += row->counts[OWN * threadIdx.x + i];
  }
  valley_pick_load_seen (rows, seen);
  for (unsigned place = threadIdx.x; place < VALLEY_PICK_PIECE; place += blockDim.x) {
    double distance = piece_distance (rows, seen, place, best, temperature);
    unsigned bin = bin_of (distance);
    size_t at;

    if (distance == INFINITY)
      continue;
    at = blockIdx.y * rows.n + starts[bin] + valley_atomic_add (&row->filled[bin], 1u);
    lists.keys[at] = (ValleyMass) __double_as_longlong (distance);
    lists.ids[at] = (uint32_t) ((size_t) blockIdx.x * VALLEY_PICK_PIECE + place);
  }
}

/* ---- walking ---- */

typedef enum { BY_COUNT, BY_MASS } Measure;

/* A block that walks one row.  All its threads know the same. */
struct Walk {
  const ValleyPickBins *bins;
  const ValleyMass *keys;
  const uint32_t *ids;
  ValleyShared<ValleyMass> table;   /* VALLEY_PICK_BINS */
  ValleyShared<ValleyMass> partial; /* VALLEY_MAX_WARPS, and 2 for what one thread tells all */
};

/* Where a walk of so much ends. */
struct Place {
  ValleyMass key;
  uint32_t id;
  ValleyMass rest; /* of the goal: what was wanted of the candidate itself; at least 1 */
};

static __device__ ValleyMass
largest_of_block (ValleyShared<ValleyMass> partial, ValleyMass value)
{
  for (int bits = VALLEY_WARP / 2; bits > 0; bits /= 2) {
    ValleyMass other = valley_shuffle_xor (VALLEY_FULL_WARP, value, bits);

    value = other > value ? other : value;
  }
  if (threadIdx.x % VALLEY_WARP == 0)
    partial[threadIdx.x / VALLEY_WARP] = value;
  valley_sync_block ();
  for (unsigned i = 0; i < blockDim.x / VALLEY_WARP; i++)
    value = partial[i] > value ? partial[i] : value;
  valley_sync_block ();
  return value;
}

/* The entry of the table in which the sum reaches @goal, 1 ... the sum of all; what is left of
 * the goal within it. */
static __device__ unsigned
find_entry (const Walk &walk, ValleyMass *goal)
{
  enum { OWN = VALLEY_PICK_BINS / WALK_THREADS };
  ValleyMass own = 0, before;

  for (unsigned i = 0; i < OWN; i++)
    own += walk.table[OWN * threadIdx.x + i];
  before = sum_before (walk.partial, own);
  for (unsigned i = 0; i < OWN; i++) {
    ValleyMass value = walk.table[OWN * threadIdx.x + i];

    if (before < *goal && *goal - before <= value) { /* one thread, once */
      walk.partial[VALLEY_MAX_WARPS] = OWN * threadIdx.x + i;
      walk.partial[VALLEY_MAX_WARPS + 1] = *goal - before;
    }
    before += value;
  }
  valley_sync_block ();
  *goal = walk.partial[VALLEY_MAX_WARPS + 1];
  return (unsigned) walk.partial[VALLEY_MAX_WARPS];
}

/* Candidates @first ... @first + @n - 1 of the list, ranked by their keys, or those with @key by
 * their ids: where, rank by rank, the sum reaches @goal.  Every round cuts the range of values
 * to one of 2^10 parts, and ends up with one value. */
static __device__ ValleyMass
find_value (const Walk &walk, size_t first, size_t n, bool by_id, ValleyMass key, Measure measure,
            ValleyMass *goal)
{
  ValleyMass low = 0, high = ~(ValleyMass) 0;

  for (;;) {
    ValleyMass min = ~(ValleyMass) 0, max = 0;
    int shift;

    for (size_t i = first + threadIdx.x; i < first + n; i += blockDim.x) {
      ValleyMass value = by_id ? walk.ids[i] : walk.keys[i];

      if (value < low || value > high || (by_id && walk.keys[i] != key))
        continue;
      min = value < min ? value : min;
      max = value > max ? value : max;
    }
    max = largest_of_block (walk.partial, max);
    min = ~largest_of_block (walk.partial, ~min);
    if (min == max)
      return min;
    shift = 64 - __clzll ((long long) (max - min)) - 10;
    shift = shift > 0 ? shift : 0;
    for (unsigned i = threadIdx.x; i < VALLEY_PICK_BINS; i += blockDim.x)
      walk.table[i] = 0;
    valley_sync_block ();
    for (size_t i = first + threadIdx.x; i < first + n; i += blockDim.x) {
      ValleyMass value = by_id ? walk.ids[i] : walk.keys[i];

      if (value < min || value > max || (by_id && walk.keys[i] != key))
        continue;
      valley_atomic_add (
          &walk.table[(value - min) >> shift],
          measure == BY_MASS ? mass_of (__longlong_as_double ((long long) walk.keys[i])) : 1);
    }
    valley_sync_block ();
    low = min + ((ValleyMass) find_entry (walk, goal) << shift);
    high = low + (((ValleyMass) 1 << shift) - 1);
    high = high < max ? high : max;
  }
}

/* The bins' counts or masses as the table; their sum. */
static __device__ ValleyMass
load_bins (const Walk &walk, Measure measure)
{
  ValleyMass sum = 0;

  valley_sync_block (); /* the table is read no more */
  for (unsigned i = threadIdx.x; i < VALLEY_PICK_BINS; i += blockDim.x) {
    walk.table[i] = measure == BY_MASS ? walk.bins->masses[i] : walk.bins->counts[i];
    sum += walk.table[i];
  }
  return valley_block_sum (walk.partial, sum);
}

/* What lies before a bin: so many candidates, or so much mass. */
static __device__ ValleyMass
sum_to_bin (const Walk &walk, unsigned bin, Measure measure)
{
  ValleyMass sum = 0;

  for (unsigned i = threadIdx.x; i < bin; i += blockDim.x)
    sum += measure == BY_MASS ? walk.bins->masses[i] : walk.bins->counts[i];
  return valley_block_sum (walk.partial, sum);
}

/* The mass of what top-k leaves: @k candidates, and all that equal the last of them. */
static __device__ ValleyMass
mass_of_top_k (const Walk &walk, ValleyMass k)
{
  ValleyMass key, sum = 0;
  size_t first, n;
  unsigned bin;

  if (k == 0 || k >= load_bins (walk, BY_COUNT))
    return load_bins (walk, BY_MASS);
  bin = find_entry (walk, &k);
  first = sum_to_bin (walk, bin, BY_COUNT);
  n = walk.bins->counts[bin];
  key = find_value (walk, first, n, false, 0, BY_COUNT, &k);
  for (size_t i = first + threadIdx.x; i < first + n; i += blockDim.x)
    if (walk.keys[i] <= key)
      sum += mass_of (__longlong_as_double ((long long) walk.keys[i]));
  return sum_to_bin (walk, bin, BY_MASS) + valley_block_sum (walk.partial, sum);
}

/* Passes mass from the likeliest on until it is @goal, which is at least 1. */
static __device__ Place
walk_mass (const Walk &walk, ValleyMass goal)
{
  Place place = { 0, 0, goal };
  unsigned bin;
  size_t first, n;

  load_bins (walk, BY_MASS);
  bin = find_entry (walk, &place.rest);
  first = sum_to_bin (walk, bin, BY_COUNT);
  n = walk.bins->counts[bin];
  place.key = find_value (walk, first, n, false, 0, BY_MASS, &place.rest);
  place.id = (uint32_t) find_value (walk, first, n, true, place.key, BY_MASS, &place.rest);
  return place;
}

/* The mass of what top-p leaves of @mass: from the unlikely end everything goes that sums to at
 * most 1 - p of it, but never the likeliest. */
static __device__ ValleyMass
mass_of_top_p (const Walk &walk, ValleyMass mass, double p)
{
  ValleyMass goal;
  Place last;

  if (p >= 1)
    return mass;
  goal = mass - (ValleyMass) ((1 - p) * (double) mass);
  goal = goal > 0 && goal <= mass ? goal : 1;
  last = walk_mass (walk, goal);
  return goal - last.rest + mass_of (__longlong_as_double ((long long) last.key));
}

static __global__ void
__launch_bounds__ (WALK_THREADS)
    draw_rows (int32_t *picks, const ValleyPickFound *found, const ValleyPickBins *bins,
               Lists lists, const ValleyPickRows rows, ValleyMass k, double p,
               const uint32_t *draws)
{
  VALLEY_SHARED (ValleyMass, table, VALLEY_PICK_BINS);
  VALLEY_SHARED (ValleyMass, partial, VALLEY_MAX_WARPS + 2);
  Walk walk = { bins + blockIdx.x, lists.keys + blockIdx.x * rows.n,
                lists.ids + blockIdx.x * rows.n, table, partial };
  ValleyMass mass, draw = draws[2 * blockIdx.x] | (ValleyMass) draws[2 * blockIdx.x + 1] << 32;
  int32_t id = found[blockIdx.x].id;

  if (id >= 0) {
    mass = mass_of_top_p (walk, mass_of_top_k (walk, k), p);
    id = (int32_t) walk_mass (walk, __umul64hi (draw << 11, mass) + 1).id;
  }
  if (threadIdx.x == 0)
    valley_pick_write (picks + 2 * (size_t) blockIdx.x, rows.logits + blockIdx.x * rows.stride, id,
                       found[blockIdx.x].log_sum);
}

void
valley_pick_draw (int32_t *picks, const ValleyPickRows &rows_, unsigned n_rows,
                  const ValleyCudaPick *pick, const ValleyPickFound *found, ValleyPickBins *bins,
                  void *list_memory, cudaStream_t stream)
{
  ValleyPickRows rows = rows_;
  dim3 grid ((unsigned) valley_pick_pieces (rows.n), n_rows);
  ValleyMass *keys = (ValleyMass *) list_memory, k = pick->top_k;
  Lists lists = { keys, (uint32_t *) (keys + n_rows * rows.n) };
  double temperature = pick->temperature, p = pick->top_p;
  const uint32_t *draws = pick->draws;

  VALLEY_LAUNCH (count_bins, grid, VALLEY_PICK_THREADS, 0, stream, bins, found, rows, temperature);
  VALLEY_LAUNCH (fill_lists, grid, VALLEY_PICK_THREADS, 0, stream, lists, bins, found, rows,
                 temperature);
  VALLEY_LAUNCH (draw_rows, n_rows, WALK_THREADS, 0, stream, picks, found, bins, lists, rows, k, p,
                 draws);
}
