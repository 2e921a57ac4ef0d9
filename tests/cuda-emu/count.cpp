/* count.cpp - what every kernel reads, writes and multiplies.
 *
 * Distinct bytes are whole sectors of 32, in which a GPU's memory answers: what a launch must
 * bring from memory at least once, or write there.  Total bytes are what its threads asked for.
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"
#include "watch.h"

#include <algorithm>
#include <array>
#include <map>
#include <stdlib.h>
#include <sys/mman.h>

#define SECTOR ((size_t) 32)

struct KernelCount {
  uint64_t launches, blocks, threads, shared_bytes;
  uint64_t read, written, read_distinct, written_distinct, atomic;
  uint64_t shared_read, shared_written, tensor_flops;
};

static std::map<std::string, KernelCount> kernels;
/* by m, n, k, bytes of an element of the factors and of the result */
static std::map<std::array<size_t, 5>, uint64_t> products;
static KernelCount *current;
/* The launch that last read or wrote each sector of the arena. */
static uint32_t *last_read, *last_written, launch_number;
static std::string json;

static uint32_t *
map_sectors (void)
{
  size_t bytes = emu_arena_bytes () / SECTOR * sizeof (uint32_t);
  void *map = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (map == MAP_FAILED) {
    perror ("cuda-emu: a map of the device's sectors");
    exit (1);
  }
  return (uint32_t *) map;
}

void
emu_count_kernel (const EmuLaunch &launch)
{
  if (last_read == NULL) {
    last_read = map_sectors ();
    last_written = map_sectors ();
  }
  launch_number++;
  current = &kernels[launch.name];
  current->launches++;
  current->threads += (uint64_t) launch.block.x * launch.block.y * launch.block.z * launch.grid.x
                      * launch.grid.y * launch.grid.z;
  current->shared_bytes = std::max (current->shared_bytes, (uint64_t) launch.shared_bytes);
}

void
emu_count_block (void)
{
  current->blocks++;
}

static uint64_t
new_sector_bytes (uint32_t *last, const EmuAccess &access)
{
  uint64_t bytes = 0;

  for (size_t i = access.offset / SECTOR; i <= (access.offset + access.bytes - 1) / SECTOR; i++)
    if (last[i] != launch_number) {
      last[i] = launch_number;
      bytes += SECTOR;
    }
  return bytes;
}

void
emu_count_access (const EmuAccess &access)
{
  if (access.bytes == 0)
    return;
  if (access.space == EMU_SHARED)
    (access.write ? current->shared_written : current->shared_read) += access.bytes;
  else if (access.write) {
    current->written += access.bytes;
    current->written_distinct += new_sector_bytes (last_written, access);
    current->atomic += access.atomic;
  } else {
    current->read += access.bytes;
    current->read_distinct += new_sector_bytes (last_read, access);
  }
}

void
emu_watch_tensor_flops (uint64_t flops)
{
  if (current != NULL)
    current->tensor_flops += flops;
}

void
emu_watch_product (const EmuProduct &p)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  products[{ p.m, p.n, p.k, p.element_bytes, p.out_bytes }]++;
}

/* ---- the report ---- */

void
emu_watch_kernel_end (void)
{
  current = NULL;
}

void
emu_count_reset (void)
{
  std::lock_guard<EmuMutex> guard (emu_lock);

  kernels.clear ();
  products.clear ();
}

static std::string
number_member (const char *name, uint64_t value)
{
  return std::string (", \"") + name + "\": " + std::to_string (value);
}

const char *
emu_count_json (void)
{
  std::lock_guard<EmuMutex> guard (emu_lock);
  const char *comma = "";

  json = "{\"kernels\": [";
  for (const auto &[name, k] : kernels) {
    /* a template's arguments stay in the name, and hold no quotes */
    json += comma + ("{\"name\": \"" + name) + "\"" + number_member ("launches", k.launches)
            + number_member ("blocks", k.blocks) + number_member ("threads", k.threads)
            + number_member ("dynamic_shared_bytes", k.shared_bytes)
            + number_member ("read", k.read) + number_member ("read_distinct", k.read_distinct)
            + number_member ("written", k.written)
            + number_member ("written_distinct", k.written_distinct)
            + number_member ("atomics", k.atomic) + number_member ("shared_read", k.shared_read)
            + number_member ("shared_written", k.shared_written)
            + number_member ("tensor_flops", k.tensor_flops) + "}";
    comma = ",\n  ";
  }
  json += "],\n \"products\": [";
  comma = "";
  for (const auto &[shape, calls] : products) {
    json += comma + ("{\"m\": " + std::to_string (shape[0])) + number_member ("n", shape[1])
            + number_member ("k", shape[2]) + number_member ("element_bytes", shape[3])
            + number_member ("out_bytes", shape[4]) + number_member ("calls", calls) + "}";
    comma = ",\n  ";
  }
  json += "]}\n";
  return json.c_str ();
}
