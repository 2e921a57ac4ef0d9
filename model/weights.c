/* weights.c - hands checkpoint tensors to the stages and keeps account of what was asked
 * for, what was not there and what did not fit.
 * SPDX-License-Identifier: Apache-2.0 */
#include "weights.h"

#include "alloc.h"
#include "randomweights.h"

#include <string.h>

#define MAX_NAMED_PROBLEMS 3 /* in the error; the rest is counted */

typedef enum { MATRIX, VECTOR, BIAS } Kind;

struct _ValleyWeights {
  const ValleySafetensors *files;
  ValleyRandomWeights *random; /* instead of files */
  ValleyBackend *backend;
  GCancellable *cancellable;
  char *prefix;
  GPtrArray *problems;   /* ValleyWeightProblem */
  GHashTable *misshapen; /* names, borrowed from `problems` */
  GHashTable *used;      /* names */
  GPtrArray *ignored;    /* prefixes */
  GArray *tensors;       /* ValleyTensor, their memory is ours */
  gsize used_bytes;
  gsize elements[3]; /* by Kind */
  GError *error;     /* the first failure to load */
};

static void
problem_free (gpointer data)
{
  ValleyWeightProblem *problem = data;

  g_free (problem->name);
  g_free (problem->expected);
  g_free (problem->found);
  g_free (problem);
}

ValleyWeights *
valley_weights_new (const ValleySafetensors *files, ValleyBackend *backend,
                    GCancellable *cancellable)
{
  ValleyWeights *weights = g_new0 (ValleyWeights, 1);

  weights->files = files;
  weights->backend = backend;
  weights->cancellable = cancellable;
  weights->prefix = g_strdup ("");
  weights->problems = g_ptr_array_new_with_free_func (problem_free);
  weights->misshapen = g_hash_table_new (g_str_hash, g_str_equal);
  weights->used = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  weights->ignored = g_ptr_array_new_with_free_func (g_free);
  weights->tensors = g_array_new (FALSE, FALSE, sizeof (ValleyTensor));
  return weights;
}

ValleyWeights *
valley_weights_new_random (guint64 seed, ValleyBackend *backend, GCancellable *cancellable)
{
  ValleyWeights *weights = valley_weights_new (NULL, backend, cancellable);

  weights->random = valley_random_weights_new (seed);
  return weights;
}

void
valley_weights_free (ValleyWeights *weights)
{
  if (weights == NULL)
    return;
  for (guint i = 0; i < weights->tensors->len; i++)
    valley_tensor_clear (weights->backend, &g_array_index (weights->tensors, ValleyTensor, i));
  g_array_unref (weights->tensors);
  valley_random_weights_free (weights->random); /* tensors may have borrowed its bytes */
  g_hash_table_unref (weights->misshapen);
  g_ptr_array_unref (weights->problems);
  g_ptr_array_unref (weights->ignored);
  g_hash_table_unref (weights->used);
  g_clear_error (&weights->error);
  g_free (weights->prefix);
  g_free (weights);
}

void
valley_weights_set_prefix (ValleyWeights *weights, const char *format, ...)
{
  va_list args;

  g_free (weights->prefix);
  va_start (args, format);
  weights->prefix = g_strdup_vprintf (format, args);
  va_end (args);
}

static void
add_problem (ValleyWeights *weights, const char *name, const gsize *shape, gsize n_dims,
             const ValleySafetensor *found)
{
  ValleyWeightProblem *problem = g_new0 (ValleyWeightProblem, 1);
  g_autofree char *expected = valley_shape_to_string (shape, n_dims);

  problem->name = g_strdup (name);
  problem->expected = g_strdup_printf ("%s in BF16, F16 or F32", expected);
  if (found != NULL) {
    g_autofree char *text = valley_shape_to_string (found->shape, found->n_dims);
    problem->found = g_strdup_printf ("%s in %s", text, found->type);
    g_hash_table_add (weights->misshapen, problem->name);
  }
  g_ptr_array_add (weights->problems, problem);
}

/* For error messages. */
static const char *
source_path (const ValleyWeights *weights)
{
  return weights->random != NULL ? "random weights" : valley_safetensors_path (weights->files);
}

/* Sets the error. */
static gboolean
is_cancelled (ValleyWeights *weights)
{
  if (!g_cancellable_is_cancelled (weights->cancellable))
    return FALSE;
  weights->error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "loading was cancelled");
  return TRUE;
}

/* The tensor in the files, or one made up; NULL when there is none, or after an error. */
static const ValleySafetensor *
find (ValleyWeights *weights, const char *name, const gsize *shape, gsize n_dims)
{
  const ValleySafetensor *made;

  if (weights->random == NULL)
    return valley_safetensors_find (weights->files, name);
  if (weights->error != NULL || is_cancelled (weights))
    return NULL;
  made = valley_random_weights_make (weights->random, name, shape, n_dims);
  if (made == NULL)
    weights->error
        = g_error_new (VALLEY_ERROR, VALLEY_ERROR_MEMORY, "%s: not enough memory for tensor \"%s\"",
                       source_path (weights), name);
  return made;
}

static void
load (ValleyWeights *weights, const ValleySafetensor *found, Kind kind, gsize rows, gsize cols,
      ValleyTensor *out)
{
  const ValleyOps *ops;
  gboolean ok;

  if (weights->backend == NULL || weights->error != NULL || is_cancelled (weights))
    return;
  ops = weights->backend->ops;
  if (kind == MATRIX) {
    ok = ops->load_matrix (weights->backend, out, found->data, found->dtype, rows, cols);
  } else {
    if (weights->random == NULL)
      valley_safetensor_prefetch (found);
    ok = (kind == BIAS ? ops->load_bias : ops->load_vector) (weights->backend, out, found->data,
                                                             found->dtype, rows, cols);
  }
  if (ok)
    g_array_append_val (weights->tensors, *out);
  else if (g_atomic_int_get (&weights->backend->lost))
    weights->error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                                  "%s: the device failed while tensor \"%s\" was copied to it",
                                  found->path, found->name);
  else
    weights->error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                                  "%s: not enough memory for tensor \"%s\" (%" G_GSIZE_FORMAT
                                  " bytes in the file)",
                                  found->path, found->name, found->bytes);
}

/* Every request ends here.  [shape[0], product of the rest] is what the backend gets, but a
 * vector is one row. */
static void
request (ValleyWeights *weights, const char *name, Kind kind, const gsize *shape, gsize n_dims,
         ValleyTensor *out)
{
  g_autofree char *full = g_strconcat (weights->prefix, name, NULL);
  const ValleySafetensor *found = find (weights, full, shape, n_dims);
  gsize rows = n_dims == 1 ? 1 : shape[0], cols = n_dims == 1 ? shape[0] : 1;

  *out = (ValleyTensor){ 0 };
  if (found == NULL) {
    add_problem (weights, full, shape, n_dims, NULL);
    return;
  }
  g_hash_table_add (weights->used, g_strdup (full));
  if (!found->is_weight || found->n_dims != n_dims
      || memcmp (found->shape, shape, n_dims * sizeof *shape) != 0) {
    add_problem (weights, full, shape, n_dims, found);
    return;
  }
  for (gsize i = 1; i < n_dims; i++)
    cols *= shape[i]; /* equal to the file's shape, whose product was checked */
  weights->used_bytes += found->bytes;
  weights->elements[kind] += rows * cols;
  load (weights, found, kind, rows, cols, out);
}

void
valley_weights_matrix (ValleyWeights *weights, const char *name, gsize rows, gsize cols,
                       ValleyTensor *out)
{
  request (weights, name, MATRIX, (gsize[]){ rows, cols }, 2, out);
}

void
valley_weights_conv (ValleyWeights *weights, const char *name, gsize n_dims, const gsize *shape,
                     ValleyTensor *out)
{
  request (weights, name, MATRIX, shape, n_dims, out);
}

void
valley_weights_vector (ValleyWeights *weights, const char *name, gsize n, ValleyTensor *out)
{
  request (weights, name, VECTOR, &n, 1, out);
}

void
valley_weights_bias (ValleyWeights *weights, const char *name, gsize n, ValleyTensor *out)
{
  request (weights, name, BIAS, &n, 1, out);
}

void
valley_weights_table (ValleyWeights *weights, const char *name, gsize rows, gsize cols,
                      ValleyTensor *out)
{
  request (weights, name, VECTOR, (gsize[]){ rows, cols }, 2, out);
}

void
valley_weights_linear (ValleyWeights *weights, const char *name, gsize rows, gsize cols,
                       ValleyTensor *weight, ValleyTensor *bias)
{
  g_autofree char *weight_name = g_strconcat (name, ".weight", NULL);
  g_autofree char *bias_name = g_strconcat (name, ".bias", NULL);

  valley_weights_matrix (weights, weight_name, rows, cols, weight);
  valley_weights_bias (weights, bias_name, rows, bias);
}

void
valley_weights_norm (ValleyWeights *weights, const char *name, gsize n, ValleyTensor *weight,
                     ValleyTensor *bias)
{
  g_autofree char *weight_name = g_strconcat (name, ".weight", NULL);
  g_autofree char *bias_name = g_strconcat (name, ".bias", NULL);

  valley_weights_vector (weights, weight_name, n, weight);
  valley_weights_vector (weights, bias_name, n, bias);
}

gpointer
valley_weights_structs (ValleyWeights *weights, const char *what, gsize n, gsize size)
{
  gpointer structs = valley_alloc0 (n, size);

  if (structs == NULL && n > 0 && weights->error == NULL)
    weights->error = g_error_new (VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                                  "%s: not enough memory for %" G_GSIZE_FORMAT " %s",
                                  source_path (weights), n, what);
  return structs;
}

const GError *
valley_weights_failure (const ValleyWeights *weights)
{
  return weights->error;
}

void
valley_weights_ignore (ValleyWeights *weights, const char *prefix)
{
  g_ptr_array_add (weights->ignored, g_strdup (prefix));
}

gboolean
valley_weights_finish (ValleyWeights *weights, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  guint n = weights->problems->len;

  if (n == 0 && weights->error == NULL)
    return TRUE;
  if (weights->error != NULL) {
    g_propagate_error (error, g_error_copy (weights->error));
    return FALSE;
  }
  for (guint i = 0; i < MIN (n, MAX_NAMED_PROBLEMS); i++) {
    const ValleyWeightProblem *problem = g_ptr_array_index (weights->problems, i);

    g_string_append_printf (text, "%stensor \"%s\" is %s; expected %s", i > 0 ? "; " : "",
                            problem->name, problem->found != NULL ? problem->found : "missing",
                            problem->expected);
  }
  if (n > MAX_NAMED_PROBLEMS)
    g_string_append_printf (text, "; and %u more", n - MAX_NAMED_PROBLEMS);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_TENSOR, "%s: %s", source_path (weights),
               text->str);
  return FALSE;
}

const GPtrArray *
valley_weights_problems (const ValleyWeights *weights)
{
  return weights->problems;
}

gboolean
valley_weights_is_used (const ValleyWeights *weights, const char *name)
{
  return g_hash_table_contains (weights->used, name);
}

gboolean
valley_weights_is_misshapen (const ValleyWeights *weights, const char *name)
{
  return g_hash_table_contains (weights->misshapen, name);
}

gboolean
valley_weights_is_ignored (const ValleyWeights *weights, const char *name)
{
  for (guint i = 0; i < weights->ignored->len; i++)
    if (g_str_has_prefix (name, g_ptr_array_index (weights->ignored, i)))
      return TRUE;
  return FALSE;
}

gsize
valley_weights_used_bytes (const ValleyWeights *weights)
{
  return weights->used_bytes;
}

void
valley_weights_elements (const ValleyWeights *weights, gsize *narrow, gsize *vectors)
{
  *narrow = weights->elements[MATRIX] + weights->elements[BIAS];
  *vectors = weights->elements[VECTOR];
}
