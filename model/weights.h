/* weights.h - the one walk over a checkpoint: stages ask for tensors by name and shape.
 *
 * Loading and inspecting take the same walk; without a backend nothing is read and only
 * names and shapes are compared.  Problems are collected, so that a stage asks for
 * everything it needs without looking at each answer.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "safetensors.h"

typedef struct _ValleyWeights ValleyWeights;

typedef struct {
  char *name;
  char *expected, *found; /* shapes; `found` is NULL when the tensor is missing */
} ValleyWeightProblem;

/* @backend NULL: compare only.  Both, and @cancellable, outlive the walk.  The tensors that
 * a walk hands out belong to it: they live until valley_weights_free. */
ValleyWeights *valley_weights_new (const ValleySafetensors *files, ValleyBackend *backend,
                                   GCancellable *cancellable);
/* No files: every tensor that is asked for is made up of small random numbers. */
ValleyWeights *valley_weights_new_random (guint64 seed, ValleyBackend *backend,
                                          GCancellable *cancellable);
void valley_weights_free (ValleyWeights *weights); /* NULL is fine */

/* What the following names start with. */
void valley_weights_set_prefix (ValleyWeights *weights, const char *format, ...)
    G_GNUC_PRINTF (2, 3);
/* A matrix for the backend's `linear`, `mix` or `gather`, in the file's type or bf16. */
void valley_weights_matrix (ValleyWeights *weights, const char *name, gsize rows, gsize cols,
                            ValleyTensor *out);
/* A convolution's [out, in, kernel...] as the matrix [out, in * kernel...]. */
void valley_weights_conv (ValleyWeights *weights, const char *name, gsize n_dims,
                          const gsize *shape, ValleyTensor *out);
/* f32 [1, n]: a norm's weight or bias, the bias of a `linear` whose result is f32. */
void valley_weights_vector (ValleyWeights *weights, const char *name, gsize n, ValleyTensor *out);
/* [1, n]: the bias of a `linear` whose result is activations, in the type that suits it. */
void valley_weights_bias (ValleyWeights *weights, const char *name, gsize n, ValleyTensor *out);
/* f32 [rows, cols]: a table that is added to activations. */
void valley_weights_table (ValleyWeights *weights, const char *name, gsize rows, gsize cols,
                           ValleyTensor *out);
/* A linear layer to activations: "NAME.weight" [rows, cols] and "NAME.bias" [rows]; a norm: both
 * [n]. */
void valley_weights_linear (ValleyWeights *weights, const char *name, gsize rows, gsize cols,
                            ValleyTensor *weight, ValleyTensor *bias);
void valley_weights_norm (ValleyWeights *weights, const char *name, gsize n, ValleyTensor *weight,
                          ValleyTensor *bias);
/* @n zeroed structs of a stage's own, say its layers, to g_free; NULL (for none, too) when there
 * is no room, which ends the walk with an error about @what. */
gpointer valley_weights_structs (ValleyWeights *weights, const char *what, gsize n, gsize size);
/* Tensors that start with this are in the released files and belong to no stage. */
void valley_weights_ignore (ValleyWeights *weights, const char *prefix);

/* FALSE when a tensor was missing, misshapen or did not load: the error names the first few. */
gboolean valley_weights_finish (ValleyWeights *weights, GError **error);

/* What made loading fail, or NULL: not what the problems below say. */
const GError *valley_weights_failure (const ValleyWeights *weights);

/* For the report. */
const GPtrArray *valley_weights_problems (const ValleyWeights *weights); /* ValleyWeightProblem */
gboolean valley_weights_is_used (const ValleyWeights *weights, const char *name);
gboolean valley_weights_is_misshapen (const ValleyWeights *weights, const char *name);
gboolean valley_weights_is_ignored (const ValleyWeights *weights, const char *name);
gsize valley_weights_used_bytes (const ValleyWeights *weights);
/* How many elements were asked for as matrices and biases, which a GPU has in its precision's
 * @narrow type, and as what is always f32. */
void valley_weights_elements (const ValleyWeights *weights, gsize *narrow, gsize *vectors);
