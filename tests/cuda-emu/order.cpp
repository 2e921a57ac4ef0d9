/* order.cpp - finds two streams that touch the same memory with nothing to order them.
 *
 * Each stream, and the host (all its threads together), has a clock of what is known to have
 * ended: work begins knowing what the host knew when it was asked for, a wait for an event
 * learns what its stream knew, the host learns by waiting.  Every four bytes remember who wrote
 * them last, and two who read them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include <stdio.h>
#include <unordered_map>
#include <vector>

#define PAGE ((size_t) 4096)
#define UNIT ((size_t) 4)

struct Use {
  uint32_t stream, op; /* op 0: nobody */
};

struct Unit {
  Use write, reads[2];
};

static std::unordered_map<const void *, EmuClock> clocks;
static std::unordered_map<const void *, uint32_t> numbers;
static std::unordered_map<size_t, std::vector<Unit>> pages;
static EmuClock host;
static const void *current;
static Use now;

static uint32_t
number_of (const void *stream)
{
  return numbers.emplace (stream, (uint32_t) numbers.size ()).first->second;
}

static void
learn (EmuClock *own, const EmuClock &other)
{
  for (const auto &[stream, op] : other.ops)
    if (own->ops[stream] < op)
      own->ops[stream] = op;
}

EmuClock
emu_order_of_host (void)
{
  return host;
}

EmuClock
emu_order_of_stream (const void *stream)
{
  return clocks[stream];
}

void
emu_order_stream_learns (const void *stream, const EmuClock &other)
{
  learn (&clocks[stream], other);
}

void
emu_order_host_learns (const EmuClock &other)
{
  learn (&host, other);
}

void
emu_order_begin (const void *stream, const EmuClock &asked)
{
  uint32_t number = number_of (stream);

  learn (&clocks[stream], asked);
  now = { number, ++clocks[stream].ops[number] };
  current = stream;
}

void
emu_order_end (void)
{
  current = NULL;
}

/* Nobody uses what is freed, and nobody gets its addresses again. */
void
emu_order_forget (void)
{
  pages.clear ();
}

static bool
is_ordered (const Use &then)
{
  return then.op == 0 || then.stream == now.stream || clocks[current].ops[then.stream] >= then.op;
}

static Unit *
unit_at (size_t offset)
{
  std::vector<Unit> &page = pages[offset / PAGE];

  if (page.empty ())
    page.resize (PAGE / UNIT);
  return &page[offset % PAGE / UNIT];
}

/* In a buffer: a kernel's stack is left without running destructors. */
static void
tell (char *words, size_t n, size_t offset, bool write, bool wrote)
{
  std::string where = "memory";

  emu_memory_describe (emu_arena + offset, &where);
  snprintf (words, n, "race: %s %s, which another stream %s, and no event lies between",
            write ? "writes" : "reads", where.c_str (), wrote ? "wrote" : "read");
}

static bool
find_race (size_t offset, size_t bytes, bool write, char *words, size_t n)
{
  for (size_t at = offset / UNIT * UNIT; at < offset + bytes; at += UNIT) {
    Unit *unit = unit_at (at);
    bool after_writes = is_ordered (unit->write);

    if (!after_writes || (write && !(is_ordered (unit->reads[0]) && is_ordered (unit->reads[1])))) {
      tell (words, n, at, write, !after_writes);
      return true;
    }
    if (write)
      unit->write = now;
    else {
      if (unit->reads[0].stream != now.stream)
        unit->reads[1] = unit->reads[0];
      unit->reads[0] = now;
    }
  }
  return false;
}

void
emu_order_access (const EmuAccess &access)
{
  char words[300];

  if (current != NULL && find_race (access.offset, access.bytes, access.write, words, sizeof words))
    emu_kernel_trap (cudaErrorLaunchFailure, words);
}

cudaError_t
emu_order_range (const char *what, const void *p, size_t bytes, bool write)
{
  size_t offset = (size_t) ((const char *) p - emu_arena);
  char words[300];

  if (!emu_looks_for_races () || current == NULL || offset >= emu_arena_bytes ()
      || !find_race (offset, bytes, write, words, sizeof words))
    return cudaSuccess;
  return emu_fail (cudaErrorLaunchFailure, "%s: %s", what, words);
}
