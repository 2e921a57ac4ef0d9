/* race.cpp - finds two threads that touch one byte with nothing to order them.
 *
 * Two accesses are a race when one of them writes, they are not both atomic, and none of these
 * lies between them: the block's barrier for threads of a block, a warp's barrier that both took
 * part in (shuffles and votes order no memory), the kernel's end for different blocks.  Each byte
 * remembers its last write and two last readers, so that what one order of threads hides, the
 * next seed shows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"
#include "watch.h"

#include <algorithm>
#include <array>
#include <dlfcn.h>
#include <stdio.h>
#include <unordered_map>
#include <vector>

#define WARP 32u
#define PAGE ((size_t) 4096)

struct Record {
  uint32_t kernel, block, barrier, clock;
  const void *from;
  uint16_t thread;
  bool atomic;
};

struct Byte {
  Record write, reads[2];
};

static uint32_t kernel_number, block_number, barrier_number;
/* clocks[i][j]: what thread i knows of the clock of lane j of its warp */
static std::vector<std::array<uint32_t, WARP>> clocks;
static std::unordered_map<size_t, Byte *> pages_of_kernel;
static std::vector<Byte *> idle_pages; /* older kernels' records are as good as none */
static std::vector<Byte> shared_bytes;

/* ---- time ---- */

void
emu_race_kernel (void)
{
  size_t n_shared;

  emu_shared_memory (&n_shared);
  shared_bytes.resize (n_shared);
  for (const auto &page : pages_of_kernel)
    idle_pages.push_back (page.second);
  pages_of_kernel.clear ();
  kernel_number++;
}

void
emu_race_block (uint64_t number, unsigned n_threads)
{
  block_number = (uint32_t) number;
  barrier_number = 0;
  clocks.assign (n_threads, {});
  for (unsigned i = 0; i < n_threads; i++)
    clocks[i][i % WARP] = 1;
}

void
emu_race_block_barrier (void)
{
  barrier_number++;
}

void
emu_race_warp_barrier (unsigned first, unsigned lanes)
{
  std::array<uint32_t, WARP> together = {};

  for (unsigned i = 0; i < WARP; i++)
    for (unsigned j = 0; lanes >> i & 1 && j < WARP; j++)
      together[j] = std::max (together[j], clocks[first + i][j]);
  for (unsigned i = 0; i < WARP; i++)
    if (lanes >> i & 1) {
      clocks[first + i] = together;
      clocks[first + i][i]++;
    }
}

static bool
came_before (const Record &r, EmuSpace space)
{
  if (r.kernel != kernel_number)
    return true;
  if (r.block != block_number)
    return space == EMU_SHARED; /* another block's memory lay there */
  if (r.thread == emu_current_thread || r.barrier != barrier_number)
    return true;
  return r.thread / WARP == emu_current_thread / WARP
         && clocks[emu_current_thread][r.thread % WARP] >= r.clock;
}

/* ---- memory ---- */

static Byte *
page_at (size_t page)
{
  Byte *&bytes = pages_of_kernel[page];

  if (bytes == NULL && !idle_pages.empty ()) {
    bytes = idle_pages.back ();
    idle_pages.pop_back ();
  }
  if (bytes == NULL)
    bytes = new Byte[PAGE]();
  return bytes;
}

static Byte *
byte_at (const EmuAccess &access, size_t i)
{
  static size_t last_page = SIZE_MAX;
  static uint32_t last_kernel;
  static Byte *last;
  size_t offset = access.offset + i;

  if (access.space == EMU_SHARED)
    return &shared_bytes[offset];
  if (offset / PAGE != last_page || last_kernel != kernel_number) {
    last = page_at (offset / PAGE);
    last_page = offset / PAGE;
    last_kernel = kernel_number;
  }
  return &last[offset % PAGE];
}

/* Where addr2line looks, in words. */
static std::string
code (const void *from)
{
  Dl_info info = {};
  char words[40];

  dladdr (from, &info);
  snprintf (words, sizeof words, "+%#zx",
            (size_t) ((const char *) from - (const char *) info.dli_fbase) - 1);
  return std::string (info.dli_fname != NULL ? info.dli_fname : "?") + words;
}

/* In a buffer: a kernel's stack is left without running destructors. */
static void
tell (char *words, size_t n, const EmuAccess &now, size_t i, const Record &then, bool then_wrote,
      const void *from)
{
  std::string where = "byte " + std::to_string (now.offset + i) + " of shared memory";

  if (now.space == EMU_GLOBAL)
    emu_memory_describe (emu_arena + now.offset + i, &where);
  snprintf (words, n,
            "race: %s %s, which thread %u of block %u %s with nothing between (%s; before: %s)",
            now.write ? "writes" : "reads", where.c_str (), then.thread, then.block,
            then_wrote ? "wrote" : "read", code (from).c_str (), code (then.from).c_str ());
}

static void
check (const EmuAccess &now, size_t i, const Record &then, bool then_wrote, const void *from)
{
  char words[400];

  if ((now.atomic && then.atomic) || came_before (then, now.space))
    return;
  tell (words, sizeof words, now, i, then, then_wrote, from);
  emu_kernel_trap (cudaErrorLaunchFailure, words);
}

void
emu_race_access (const EmuAccess &access, const void *from)
{
  unsigned me = emu_current_thread;
  Record now = { kernel_number, block_number,  barrier_number, clocks[me][me % WARP],
                 from,          (uint16_t) me, access.atomic };

  for (size_t i = 0; i < access.bytes; i++) {
    Byte *byte = byte_at (access, i);

    check (access, i, byte->write, true, from);
    if (access.write) {
      check (access, i, byte->reads[0], false, from);
      check (access, i, byte->reads[1], false, from);
      byte->write = now;
    } else {
      if (byte->reads[0].thread != me || byte->reads[0].block != block_number)
        byte->reads[1] = byte->reads[0];
      byte->reads[0] = now;
    }
  }
}
