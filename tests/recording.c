/* recording.c - see recording.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "recording.h"

#include "internal.h"

#include <string.h>

RecordingCounts recording_counts;
RecordingFault recording_fault;

static const ValleyOps *cpu;
static ValleyOps table;
static GHashTable *freed;  /* of ValleyMemory */
static GArray *being_made; /* of Call; NULL: operations run */

enum { MAX_TENSORS = 7 };

typedef struct _Call Call;

/* An operation's arguments by value. */
struct _Call {
  void (*run) (ValleyStream *stream, const Call *call);
  ValleyTensor tensors[MAX_TENSORS]; /* without memory: it was NULL or empty */
  gsize number, first;
  float eps;
  ValleyActivation act;
  ValleyRole role;
  ValleyAttention attention;
  ValleyKv kv;
};

struct _ValleyGraph {
  GArray *calls;
};

/* ---- the device's memory ---- */

static void
must_live (const ValleyMemory *memory)
{
  if (memory != NULL && g_hash_table_contains (freed, memory))
    g_error ("an operation was given memory that had been freed");
}

static void
must_not_record (const char *what)
{
  if (being_made != NULL)
    g_error ("%s while operations are recorded", what);
}

static ValleyMemory *
memory_new (ValleyBackend *backend, gsize bytes)
{
  must_not_record ("an allocation");
  return cpu->memory_new (backend, bytes);
}

static void
memory_free (ValleyBackend *backend, ValleyMemory *memory)
{
  must_not_record ("freeing");
  if (memory == NULL)
    return;
  memset (memory->data, 0xff, memory->bytes);
  g_hash_table_add (freed, memory);
}

static void
upload (ValleyStream *stream, const ValleyTensor *dst, const float *src)
{
  must_not_record ("an upload");
  cpu->upload (stream, dst, src);
}

static gboolean
download (ValleyStream *stream, const ValleyTensor *src, float *dst, GError **error)
{
  must_not_record ("a download");
  must_live (src->memory);
  return cpu->download (stream, src, dst, error);
}

static void
upload_ids (ValleyStream *stream, const ValleyTensor *dst, const gint32 *src)
{
  must_not_record ("an upload");
  recording_counts.n_id_uploads++;
  cpu->upload_ids (stream, dst, src);
}

static void
upload_pages (ValleyStream *stream, const ValleyTensor *to, gsize first, ValleyMemory *const *pages,
              gsize n)
{
  must_not_record ("an upload");
  if (recording_fault == RECORDING_CANCELLED) {
    recording_fault = RECORDING_WORKS;
    g_atomic_int_set (&stream->cancelled, 1);
  }
  if (valley_stream_stopped (stream))
    return;
  g_assert_cmpint (to->dtype, ==, VALLEY_I32);
  g_assert_cmpuint (to->stride, ==, sizeof *pages / sizeof (gint32));
  g_assert_cmpuint (first + n, <=, to->rows);
  recording_counts.n_page_uploads += (guint) n;
  memcpy (valley_cpu_row (to, first), pages, n * sizeof *pages);
}

/* What @kv says of @rows rows from the first on, by the device's memory alone. */
static ValleyKv
read_kv (const ValleyKv *given, gsize rows)
{
  ValleyKv kv = *given;

  must_live (kv.table.memory);
  must_live (kv.first.memory);
  kv.first_row = (gsize) * (const gint32 *) valley_cpu_row (&kv.first, 0);
  g_assert_cmpuint (kv.first_row + rows, <=, kv.most_rows);
  kv.n_pages = (kv.first_row + rows + kv.page_rows - 1) / kv.page_rows;
  g_assert_cmpuint (kv.n_pages, <=, kv.table.rows);
  kv.pages = valley_cpu_row (&kv.table, 0);
  for (gsize i = 0; i < kv.n_pages; i++)
    must_live (kv.pages[i]);
  return kv;
}

/* ---- operations that passes are made of ---- */

static void
call (ValleyStream *stream, const Call *call)
{
  if (being_made != NULL)
    g_array_append_vals (being_made, call, 1);
  else
    call->run (stream, call);
}

static ValleyTensor
tensor_or_none (const ValleyTensor *tensor)
{
  return tensor != NULL ? *tensor : (ValleyTensor){ 0 };
}

static void
run_gather (ValleyStream *stream, const Call *c)
{
  cpu->gather (stream, &c->tensors[0], &c->tensors[1], &c->tensors[2]);
}

static void
gather (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *ids)
{
  call (stream, &(Call){ .run = run_gather, .tensors = { *y, *x, *ids } });
}

static void
run_copy (ValleyStream *stream, const Call *c)
{
  cpu->copy (stream, &c->tensors[0], &c->tensors[1]);
}

static void
copy (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x)
{
  call (stream, &(Call){ .run = run_copy, .tensors = { *y, *x } });
}

static void
run_add (ValleyStream *stream, const Call *c)
{
  cpu->add (stream, &c->tensors[0], &c->tensors[1]);
}

static void
add (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x)
{
  call (stream, &(Call){ .run = run_add, .tensors = { *y, *x } });
}

static void
run_swiglu (ValleyStream *stream, const Call *c)
{
  cpu->swiglu (stream, &c->tensors[0], &c->tensors[1], &c->tensors[2]);
}

static void
swiglu (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *gate,
        const ValleyTensor *up)
{
  call (stream, &(Call){ .run = run_swiglu, .tensors = { *y, *gate, *up } });
}

static void
run_rms_norm (ValleyStream *stream, const Call *c)
{
  cpu->rms_norm (stream, &c->tensors[0], &c->tensors[1], &c->tensors[2], &c->tensors[3], c->eps);
}

static void
rms_norm (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x,
          const ValleyTensor *delta, const ValleyTensor *weight, float eps)
{
  call (stream, &(Call){ .run = run_rms_norm,
                         .tensors = { *y, *x, tensor_or_none (delta), *weight },
                         .eps = eps });
}

static void
run_linear (ValleyStream *stream, const Call *c)
{
  cpu->linear (stream, &c->tensors[0], &c->tensors[1], &c->tensors[2], &c->tensors[3], c->act,
               c->role);
}

static void
linear (ValleyStream *stream, const ValleyTensor *y, const ValleyTensor *x, const ValleyTensor *w,
        const ValleyTensor *bias, ValleyActivation act, ValleyRole role)
{
  call (stream, &(Call){ .run = run_linear,
                         .tensors = { *y, *x, *w, tensor_or_none (bias) },
                         .act = act,
                         .role = role });
}

static void
run_rotate_append (ValleyStream *stream, const Call *c)
{
  const ValleyTensor *t = c->tensors;
  ValleyKv kv = read_kv (&c->kv, t[1].rows);

  cpu->rotate_append (stream, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], c->number, &kv);
}

static void
rotate_append (ValleyStream *stream, const ValleyTensor *q, const ValleyTensor *k,
               const ValleyTensor *v, const ValleyTensor *cos, const ValleyTensor *sin,
               const ValleyTensor *positions, gsize head_dim, const ValleyKv *kv)
{
  call (stream, &(Call){ .run = run_rotate_append,
                         .tensors = { tensor_or_none (q), *k, *v, *cos, *sin, *positions },
                         .number = head_dim,
                         .kv = *kv });
}

static void
run_read_pages (ValleyStream *stream, const Call *c)
{
  ValleyKv kv = c->kv;
  gsize end = c->first + c->tensors[0].rows;

  must_live (kv.table.memory);
  kv.n_pages = (end + kv.page_rows - 1) / kv.page_rows;
  g_assert_cmpuint (kv.n_pages, <=, kv.table.rows);
  kv.pages = valley_cpu_row (&kv.table, 0);
  cpu->read_pages (stream, &c->tensors[0], &kv, c->number, c->first);
}

static void
read_pages (ValleyStream *stream, const ValleyTensor *y, const ValleyKv *kv, gsize plane,
            gsize first)
{
  call (stream,
        &(Call){
            .run = run_read_pages, .tensors = { *y }, .number = plane, .first = first, .kv = *kv });
}

static void
run_attend (ValleyStream *stream, const Call *c)
{
  ValleyKv kv = read_kv (&c->kv, c->attention.n_skipped + c->tensors[1].rows);

  cpu->attend (stream, &c->tensors[0], &c->tensors[1], &kv, &c->attention);
}

static void
attend (ValleyStream *stream, const ValleyTensor *out, const ValleyTensor *q, const ValleyKv *kv,
        const ValleyAttention *a)
{
  call (stream, &(Call){ .run = run_attend, .tensors = { *out, *q }, .attention = *a, .kv = *kv });
}

/* ---- graphs ---- */

static gboolean
graph_begin (ValleyStream *stream)
{
  g_assert_null (being_made);
  if (recording_fault == RECORDING_NOT_BEGUN) {
    recording_fault = RECORDING_WORKS;
    return FALSE;
  }
  being_made = g_array_new (FALSE, FALSE, sizeof (Call));
  return TRUE;
}

static ValleyGraph *
graph_end (ValleyStream *stream)
{
  ValleyGraph *graph;

  g_assert_nonnull (being_made);
  if (recording_fault == RECORDING_LOST) {
    recording_fault = RECORDING_WORKS;
    g_clear_pointer (&being_made, g_array_unref);
    return NULL;
  }
  graph = g_new (ValleyGraph, 1);
  graph->calls = g_steal_pointer (&being_made);
  recording_counts.n_graphs++;
  return graph;
}

static void
graph_run (ValleyStream *stream, ValleyGraph *graph)
{
  must_not_record ("running a graph");
  recording_counts.n_runs++;
  for (guint i = 0; i < graph->calls->len; i++) {
    const Call *c = &g_array_index (graph->calls, Call, i);

    for (guint j = 0; j < MAX_TENSORS; j++)
      must_live (c->tensors[j].memory);
    c->run (stream, c);
  }
}

static void
graph_free (ValleyBackend *backend, ValleyGraph *graph)
{
  g_array_unref (graph->calls);
  g_free (graph);
}

const ValleyOps *
recording_ops (ValleyBackend *backend)
{
  cpu = backend->ops;
  table = *cpu;
  table.memory_new = memory_new;
  table.memory_free = memory_free;
  table.upload = upload;
  table.download = download;
  table.upload_ids = upload_ids;
  table.upload_pages = upload_pages;
  table.gather = gather;
  table.copy = copy;
  table.add = add;
  table.swiglu = swiglu;
  table.rms_norm = rms_norm;
  table.linear = linear;
  table.rotate_append = rotate_append;
  table.attend = attend;
  table.read_pages = read_pages;
  table.graph_begin = graph_begin;
  table.graph_end = graph_end;
  table.graph_run = graph_run;
  table.graph_free = graph_free;
  freed = g_hash_table_new (NULL, NULL);
  memset (&recording_counts, 0, sizeof recording_counts);
  return &table;
}

void
recording_end (ValleyBackend *backend)
{
  GHashTableIter iter;
  gpointer memory;

  g_hash_table_iter_init (&iter, freed);
  while (g_hash_table_iter_next (&iter, &memory, NULL))
    cpu->memory_free (backend, memory);
  g_clear_pointer (&freed, g_hash_table_unref);
}
