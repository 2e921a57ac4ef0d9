/* recording.h - the CPU's operations as a device that records them has them: pages and places are
 * read from its own memory when an operation runs, and between graph_begin and graph_end nothing
 * runs.  One stream and one thread.
 *
 * What is freed is filled with NaN and kept until the end, so that a recording that still reads it
 * is found out.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

typedef struct {
  guint n_graphs;       /* recorded */
  guint n_runs;         /* of graphs */
  guint n_id_uploads;   /* calls */
  guint n_page_uploads; /* addresses */
} RecordingCounts;

extern RecordingCounts recording_counts;

/* The next graph_begin refuses, or graph_end gives nothing, or upload_pages finds the stream
 * cancelled since. */
typedef enum {
  RECORDING_WORKS,
  RECORDING_NOT_BEGUN,
  RECORDING_LOST,
  RECORDING_CANCELLED
} RecordingFault;
extern RecordingFault recording_fault;

/* The table; @backend is a CPU's that is not strict. */
const ValleyOps *recording_ops (ValleyBackend *backend);
/* After the backend's tensors were freed. */
void recording_end (ValleyBackend *backend);
