/* block.cpp - runs a kernel: its blocks one after another in random order, the threads of a
 * block as fibers.
 *
 * A thread runs until it must meet others.  Which warp goes next, and in which order its lanes
 * go, is random, so that what a missing barrier leaves to chance is left to chance here too.
 * When nobody can go on, the threads that wait say why.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include <algorithm>
#include <stdarg.h>
#include <vector>

#define WARP 32u
#define MAX_STATIC_SHARED ((size_t) 48 << 10)
#define SHARED_BYTES ((size_t) 228 << 10)
#define SHARED_MARGIN ((size_t) 256) /* behind what a block was given: must stay as it was */

typedef enum { READY, AT_BARRIER, AT_WARP_CALL, DONE } State;

struct Thread {
  State state;
  uint3 place;
  /* what it waits for */
  const char *file;
  int line;
  EmuWarpCall call;
  EmuWarpWork work;
  unsigned lanes;
  uint64_t value, result;
  int argument;
};

struct SharedArray {
  const char *file;
  int line;
  void *data;
};

EmuPlace emu_place;
uint64_t emu_n_kernels;
unsigned emu_current_thread;

/* The kernel that runs. */
static struct {
  const EmuLaunch *launch;
  std::vector<Thread> threads;
  std::vector<SharedArray> arrays;
  alignas (256) unsigned char shared[SHARED_BYTES];
  size_t shared_used;
  size_t shared_touched = SHARED_BYTES; /* what may not be NaN: earlier blocks had it */
  cudaError_t error;
} run;

/* ---- faults ---- */

static void
record_fault (cudaError_t error, const std::string &words, bool of_thread)
{
  char thread[80] = "";

  if (of_thread)
    snprintf (thread, sizeof thread, " thread (%u, %u, %u)", emu_place.thread.x, emu_place.thread.y,
              emu_place.thread.z);
  run.error
      = emu_fail (error, "kernel %s, block (%u, %u, %u)%s: %s", run.launch->name, emu_place.block.x,
                  emu_place.block.y, emu_place.block.z, thread, words.c_str ());
}

void
emu_kernel_trap (cudaError_t error, const char *words)
{
  record_fault (error, words, true);
  emu_fiber_quit (); /* runs no destructors */
}

void
emu_kernel_fault (cudaError_t error, const char *format, ...)
{
  char words[256];
  va_list args;

  va_start (args, format);
  vsnprintf (words, sizeof words, format, args);
  va_end (args);
  emu_kernel_trap (error, words);
}

/* ---- shared memory ---- */

void *
emu_shared_array (const char *file, int line, size_t bytes)
{
  void *data;

  for (const SharedArray &array : run.arrays)
    if (array.line == line && strcmp (array.file, file) == 0)
      return array.data;
  run.shared_used = (run.shared_used + 15) / 16 * 16;
  if (bytes > MAX_STATIC_SHARED - std::min (MAX_STATIC_SHARED, run.shared_used))
    emu_kernel_fault (cudaErrorInvalidConfiguration,
                      "more than %zu bytes of static shared memory at %s:%d", MAX_STATIC_SHARED,
                      file, line);
  data = run.shared + run.launch->shared_bytes + run.shared_used;
  run.shared_used += bytes;
  run.arrays.push_back ({ file, line, data });
  return data;
}

unsigned char *
emu_shared_memory (size_t *bytes)
{
  *bytes = SHARED_BYTES;
  return run.shared;
}

void *
emu_dynamic_shared (size_t *bytes)
{
  *bytes = run.launch->shared_bytes;
  return run.shared;
}

/* What the block is given, found as it starts: NaN in every type.  Not all that there is, which
 * would take longer than a small block does. */
static void
poison_shared (void)
{
  memset (run.shared, 0xff, run.shared_touched);
}

static void
check_shared_margin (void)
{
  size_t end = run.launch->shared_bytes + run.shared_used;

  run.shared_touched = end + SHARED_MARGIN;
  for (size_t i = end; i < run.shared_touched; i++)
    if (run.shared[i] != 0xff) {
      if (run.error == cudaSuccess)
        record_fault (cudaErrorIllegalAddress,
                      "something was written " + std::to_string (i - end)
                          + " bytes past the end of shared memory",
                      false);
      return;
    }
}

/* ---- threads that meet ---- */

void
valley_sync_block (const char *file, int line)
{
  Thread *self = &run.threads[emu_current_thread];

  self->state = AT_BARRIER;
  self->file = file;
  self->line = line;
  emu_fiber_pause ();
}

uint64_t
emu_warp_call (EmuWarpCall call, unsigned lanes, uint64_t value, int argument, const char *file,
               int line)
{
  Thread *self = &run.threads[emu_current_thread];

  if (!(lanes >> emu_current_thread % WARP & 1))
    emu_kernel_fault (cudaErrorLaunchFailure,
                      "lane %u calls at %s:%d for lanes %#x, not for itself",
                      emu_current_thread % WARP, file, line, lanes);
  self->state = AT_WARP_CALL;
  self->file = file;
  self->line = line;
  self->call = call;
  self->lanes = lanes;
  self->value = value;
  self->argument = argument;
  emu_fiber_pause ();
  return self->result;
}

void
emu_warp_together (EmuWarpWork work, void *own, const char *file, int line)
{
  run.threads[emu_current_thread].work = work;
  emu_warp_call (EMU_TOGETHER, ~0u, (uintptr_t) own, 0, file, line);
}

static bool
is_same_call (const Thread *a, const Thread *b)
{
  return b->state == AT_WARP_CALL && a->call == b->call && a->lanes == b->lanes
         && a->line == b->line && strcmp (a->file, b->file) == 0;
}

/* The lane that @self asks for; a lane's own beyond the warp's end. */
static unsigned
source_lane (const Thread *self, unsigned lane)
{
  int from = self->argument;

  if (self->call == EMU_XOR)
    from = (int) lane ^ self->argument;
  else if (self->call == EMU_DOWN)
    from = (int) lane + self->argument;
  else
    from %= (int) WARP;
  return from < 0 || from >= (int) WARP ? lane : (unsigned) from;
}

static void
work_together (const Thread *warp)
{
  void *own[WARP];

  for (unsigned i = 0; i < WARP; i++)
    own[i] = (void *) (uintptr_t) warp[i].value;
  warp->work (own);
}

static void
finish_warp_call (Thread *warp, unsigned n_lanes, unsigned lanes)
{
  unsigned votes = 0;

  if (lanes == ~0u && warp->call == EMU_TOGETHER)
    work_together (warp);
  for (unsigned i = 0; i < n_lanes; i++)
    if (lanes >> i & 1 && warp[i].value != 0)
      votes |= 1u << i;
  for (unsigned i = 0; i < n_lanes; i++) {
    unsigned from;

    if (!(lanes >> i & 1))
      continue;
    warp[i].result = votes;
    if (warp[i].call >= EMU_FROM) {
      from = source_lane (&warp[i], i);
      if (!(lanes >> from & 1)) {
        emu_place.thread = warp[i].place;
        record_fault (cudaErrorLaunchFailure,
                      "reads lane " + std::to_string (from) + ", which takes no part, at "
                          + warp[i].file + ":" + std::to_string (warp[i].line),
                      true);
        return;
      }
      warp[i].result = warp[from].value;
    }
    warp[i].state = READY;
  }
}

/* Lets go on whoever has all the lanes it waits for. */
static void
settle_warp (unsigned first)
{
  Thread *warp = &run.threads[first];
  unsigned n_lanes = std::min ((size_t) WARP, run.threads.size () - first);

  for (unsigned i = 0; i < n_lanes && run.error == cudaSuccess; i++) {
    unsigned there = 0;

    if (warp[i].state != AT_WARP_CALL)
      continue;
    for (unsigned j = 0; j < n_lanes; j++)
      if (warp[i].lanes >> j & 1 && is_same_call (&warp[i], &warp[j]))
        there |= 1u << j;
    if (there != warp[i].lanes)
      continue;
    if (warp[i].call == EMU_SYNC)
      emu_watch_warp_barrier (first, there);
    finish_warp_call (warp, n_lanes, there);
  }
}

static bool
settle_barrier (void)
{
  const Thread *first = &run.threads[0];

  for (const Thread &thread : run.threads)
    if (thread.state != AT_BARRIER || thread.line != first->line
        || strcmp (thread.file, first->file) != 0)
      return false;
  for (Thread &thread : run.threads)
    thread.state = READY;
  emu_watch_block_barrier ();
  return true;
}

/* ---- when nobody can go on ---- */

static std::string
describe (unsigned index)
{
  static const char *const calls[] = {
    "synchronises its warp", "votes", "computes with its warp", "shuffles", "shuffles", "shuffles"
  };
  char words[200];

  if (index >= run.threads.size ())
    return "lane " + std::to_string (index % WARP) + " does not exist";
  const Thread &t = run.threads[index];
  if (t.state == DONE)
    snprintf (words, sizeof words, "thread %u has ended", index);
  else if (t.state == AT_BARRIER)
    snprintf (words, sizeof words, "thread %u waits for the block at %s:%d", index, t.file, t.line);
  else
    snprintf (words, sizeof words, "thread %u %s at %s:%d for lanes %#x", index, calls[t.call],
              t.file, t.line, t.lanes);
  return words;
}

static void
report_stall (void)
{
  for (unsigned i = 0; i < run.threads.size (); i++) {
    const Thread &t = run.threads[i];

    if (t.state != AT_WARP_CALL)
      continue;
    for (unsigned j = 0; j < WARP; j++) {
      unsigned other = i / WARP * WARP + j;

      if (t.lanes >> j & 1
          && (other >= run.threads.size () || !is_same_call (&t, &run.threads[other]))) {
        record_fault (cudaErrorLaunchFailure,
                      "missing lane: " + describe (i) + ", but " + describe (other), false);
        return;
      }
    }
  }
  for (unsigned i = 0; i < run.threads.size (); i++)
    for (unsigned j = i + 1; j < run.threads.size (); j++)
      if (run.threads[i].state != run.threads[j].state
          || run.threads[i].line != run.threads[j].line) {
        record_fault (cudaErrorLaunchFailure,
                      "divergent barrier: " + describe (i) + ", but " + describe (j), false);
        return;
      }
  record_fault (cudaErrorLaunchFailure, "no thread can go on: " + describe (0), false);
}

/* ---- the schedule ---- */

static void
thread_main (void)
{
  run.launch->body ();
  emu_async_end_thread ();
  run.threads[emu_current_thread].state = DONE;
}

static bool
has_ready_lane (unsigned first)
{
  for (unsigned i = first; i < std::min ((size_t) first + WARP, run.threads.size ()); i++)
    if (run.threads[i].state == READY)
      return true;
  return false;
}

static void
run_warp (unsigned first)
{
  unsigned order = emu_random (WARP); /* xor: every lane once */

  for (unsigned i = 0; i < WARP && run.error == cudaSuccess; i++) {
    unsigned index = first + (i ^ order);

    if (index >= run.threads.size () || run.threads[index].state != READY)
      continue;
    emu_current_thread = index;
    emu_place.thread = run.threads[index].place;
    emu_fiber_run (index);
  }
  settle_warp (first);
}

static bool
run_some_warp (void)
{
  unsigned n_warps = (unsigned) (run.threads.size () + WARP - 1) / WARP;
  unsigned start = emu_random (n_warps);

  for (unsigned i = 0; i < n_warps; i++)
    if (has_ready_lane ((start + i) % n_warps * WARP)) {
      run_warp ((start + i) % n_warps * WARP);
      return true;
    }
  return false;
}

static bool
is_done (void)
{
  for (const Thread &thread : run.threads)
    if (thread.state != DONE)
      return false;
  return true;
}

static void
run_block (uint3 block)
{
  const EmuLaunch *launch = run.launch;
  dim3 size = launch->block;

  emu_place = { { 0, 0, 0 }, block, size, launch->grid };
  poison_shared ();
  run.shared_used = 0;
  run.arrays.clear ();
  emu_watch_block (
      block.x + (uint64_t) launch->grid.x * (block.y + (uint64_t) launch->grid.y * block.z),
      size.x * size.y * size.z);
  emu_async_start_block ((size_t) size.x * size.y * size.z);
  run.threads.assign ((size_t) size.x * size.y * size.z, Thread{});
  for (unsigned i = 0; i < run.threads.size (); i++) {
    run.threads[i].place = { i % size.x, i / size.x % size.y, i / size.x / size.y };
    emu_fiber_start (i, thread_main);
  }
  while (run.error == cudaSuccess)
    if (!run_some_warp () && !settle_barrier ()) {
      if (!is_done ())
        report_stall ();
      break;
    }
  check_shared_margin ();
}

cudaError_t
emu_run_kernel (const EmuLaunch &launch)
{
  uint64_t n_blocks = (uint64_t) launch.grid.x * launch.grid.y * launch.grid.z;
  uint64_t start = emu_random ((uint32_t) std::min (n_blocks, (uint64_t) UINT32_MAX));
  bool backwards = emu_random (2);
  std::string damage;

  emu_n_kernels++;
  run.launch = &launch;
  run.error = cudaSuccess;
  emu_memory_open ();
  emu_watch_kernel (launch);
  for (uint64_t i = 0; i < n_blocks && run.error == cudaSuccess; i++) {
    uint64_t at = (start + (backwards ? n_blocks - i : i)) % n_blocks;

    run_block ({ (unsigned) (at % launch.grid.x), (unsigned) (at / launch.grid.x % launch.grid.y),
                 (unsigned) (at / launch.grid.x / launch.grid.y) });
  }
  emu_watch_kernel_end ();
  if (!emu_memory_close (&damage) && run.error == cudaSuccess)
    run.error = emu_fail (cudaErrorIllegalAddress, "kernel %s: %s", launch.name, damage.c_str ());
  run.launch = NULL;
  return run.error;
}
