/* valley.c - models: opening, sharing within the process, loading.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "room.h"

/* Models of this process by "folder|device|context|precision|strict|seed", without a reference: the last
 * unref takes a model out, under the same lock that finds it. */
static GMutex registry_lock;
static GHashTable *registry;

void
valley_stages_init (ValleyStages *stages, const ValleyConfig *config, ValleyWeights *weights)
{
  memset (stages, 0, sizeof *stages);
  if (config->has_siglip) {
    valley_siglip_init (&stages->siglip, &config->siglip, weights);
    valley_connector_init (&stages->connector, config, weights);
    valley_compressors_init (&stages->compressors, config, weights);
  }
  if (config->has_eagle)
    valley_eagle_init (&stages->eagle, &config->eagle, weights);
  valley_decoder_init (&stages->llm, &config->llm, weights);
}

void
valley_stages_clear (ValleyStages *stages)
{
  valley_siglip_clear (&stages->siglip);
  valley_connector_clear (&stages->connector);
  valley_compressors_clear (&stages->compressors);
  valley_eagle_clear (&stages->eagle);
  valley_decoder_clear (&stages->llm);
}

/* ---- opening ---- */

static char *
canonical_path (const char *dir)
{
  char *real = realpath (dir, NULL);
  char *copy = g_strdup (real != NULL ? real : dir);

  free (real);
  return copy;
}

/* Under the registry's lock. */
static ValleyModel *
model_new (char *key, ValleyConfig *config, const ValleyDevice *device, ValleyPrecision precision,
           const ValleyModelOptions *options)
{
  ValleyModel *model = g_new0 (ValleyModel, 1);

  model->refs = 1;
  model->key = key;
  model->config = config;
  model->device = *device;
  model->precision = precision;
  model->threads = options->threads;
  model->strict = options->strict;
  model->random_seed = options->random_seed;
  if (device->context != NULL)
    g_set_object (&model->context_owner, options->cuda_context_owner);
  g_mutex_init (&model->backend_lock);
  g_mutex_init (&model->lock);
  g_cond_init (&model->changed);
  if (registry == NULL)
    registry = g_hash_table_new (g_str_hash, g_str_equal);
  g_hash_table_replace (registry, model->key, model); /* the key too: a lost model's goes with it */
  return model;
}

ValleyModel *
valley_model_open (const char *dir, const ValleyModelOptions *options, GError **error)
{
  static const ValleyModelOptions defaults = { 0 };
  g_autofree char *path = NULL, *key = NULL;
  ValleyPrecision precision;
  ValleyDevice device;
  ValleyConfig *config;
  ValleyModel *model;

  if (options == NULL)
    options = &defaults;
  if (dir == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "no model folder was given and the bundled model was not found");
    return NULL;
  }
  if (!valley_device_resolve (options, &device, error))
    return NULL;
  precision = valley_device_precision (&device, options->precision);
  path = canonical_path (dir);
  /* Read even when the model is shared, so that a folder gone bad is told at once. */
  config = valley_config_read (path, error);
  if (config == NULL)
    return NULL;
  key = g_strdup_printf ("%s|%s|%p|%d|%d|%" G_GUINT64_FORMAT, path, device.name, device.context,
                         precision, options->strict != FALSE, options->random_seed);

  g_mutex_lock (&registry_lock);
  model = registry != NULL ? g_hash_table_lookup (registry, key) : NULL;
  if (model != NULL && !valley_model_is_lost (model))
    model->refs++;
  else
    model = model_new (g_steal_pointer (&key), g_steal_pointer (&config), &device, precision,
                       options);
  g_mutex_unlock (&registry_lock);
  valley_config_free (config);
  return model;
}

ValleyModel *
valley_model_open_again (ValleyModel *model, gpointer cuda_context, GObject *cuda_context_owner,
                         GError **error)
{
  ValleyModelOptions options = { .device = valley_model_device (model),
                                 .precision = model->precision,
                                 .threads = model->threads,
                                 .strict = model->strict,
                                 .random_seed = model->random_seed,
                                 .cuda_context = cuda_context,
                                 .cuda_context_owner = cuda_context_owner };

  return valley_model_open (model->config->dir, &options, error);
}

gboolean
valley_model_is_lost (ValleyModel *model)
{
  ValleyBackend *backend = g_atomic_pointer_get (&model->backend);

  return backend != NULL && g_atomic_int_get (&backend->lost);
}

ValleyModel *
valley_model_ref (ValleyModel *model)
{
  g_mutex_lock (&registry_lock);
  model->refs++;
  g_mutex_unlock (&registry_lock);
  return model;
}

const char *
valley_model_device (ValleyModel *model)
{
  return model->device.name;
}

/* Everything that loading made but the backend, which pictures may lie on; the model can be loaded
 * again afterwards. */
static void
unload (ValleyModel *model)
{
  valley_stages_clear (&model->stages);
  g_clear_pointer (&model->prompt, valley_prompt_free);
  g_clear_pointer (&model->tokenizer, valley_tokenizer_free);
  g_clear_pointer (&model->weights, valley_weights_free);
  g_clear_pointer (&model->files, valley_safetensors_free);
}

void
valley_model_unref (ValleyModel *model)
{
  gboolean last;

  if (model == NULL)
    return;
  g_mutex_lock (&registry_lock);
  last = --model->refs == 0;
  /* A lost model may have been replaced in it. */
  if (last && registry != NULL && g_hash_table_lookup (registry, model->key) == model)
    g_hash_table_remove (registry, model->key);
  if (last && registry != NULL && g_hash_table_size (registry) == 0)
    g_clear_pointer (&registry, g_hash_table_unref);
  g_mutex_unlock (&registry_lock);
  if (!last)
    return;
  unload (model);
  valley_painter_free (model->painter);
  if (model->backend != NULL)
    model->backend->ops->backend_free (model->backend);
  g_clear_object (&model->context_owner); /* which may take the context with it */
  valley_config_free (model->config);
  g_mutex_clear (&model->backend_lock);
  g_mutex_clear (&model->lock);
  g_cond_clear (&model->changed);
  g_free (model->key);
  g_free (model);
}

/* ---- loading ---- */

static gboolean
set_cancelled (GError **error)
{
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_CANCELLED, "loading was cancelled");
  return FALSE;
}

static gboolean
open_weights (ValleyModel *model, GCancellable *cancellable, GError **error)
{
  if (model->random_seed != 0) {
    model->weights = valley_weights_new_random (model->random_seed, model->backend, cancellable);
    return TRUE;
  }
  model->files = valley_safetensors_open (model->config->dir, error);
  if (model->files == NULL || !valley_model_has_room (model, error))
    return FALSE;
  model->weights = valley_weights_new (model->files, model->backend, cancellable);
  return TRUE;
}

gboolean
valley_model_open_backend (ValleyModel *model, GError **error)
{
  ValleyBackend *backend;

  g_mutex_lock (&model->backend_lock);
  backend = model->backend;
  if (backend == NULL) {
    backend
        = valley_device_open (&model->device, model->precision, model->threads, model->strict, error);
    g_atomic_pointer_set (&model->backend, backend);
  }
  g_mutex_unlock (&model->backend_lock);
  return backend != NULL;
}

gpointer
valley_model_cuda_context (ValleyModel *model)
{
  return model->device.context;
}

gboolean
valley_model_takes_device_frames (ValleyModel *model, GError **error)
{
  return valley_model_open_backend (model, error) && model->backend->ops->pictures != NULL;
}

ValleyPainter *
valley_model_painter (ValleyModel *model, GError **error)
{
  if (!valley_model_open_backend (model, error))
    return NULL;
  if (model->backend->ops->pictures == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "the frame is in a device's memory, but the model runs on \"%s\"; expected one on "
                 "the host",
                 valley_model_device (model));
    return NULL;
  }
  g_mutex_lock (&model->backend_lock);
  if (model->painter == NULL)
    model->painter = valley_painter_new (model->backend, error);
  g_mutex_unlock (&model->backend_lock);
  return model->painter;
}

static gboolean
load (ValleyModel *model, GCancellable *cancellable, GError **error)
{
  ValleyConfig *config = model->config;

  if (!valley_model_open_backend (model, error))
    return FALSE;
  if (g_cancellable_is_cancelled (cancellable)) /* the tokenizer alone takes a second */
    return set_cancelled (error);
  model->tokenizer = valley_tokenizer_open (config->dir, config->llm.vocab_size, error);
  if (model->tokenizer == NULL)
    return FALSE;
  /* The release's config.json names only <|im_end|>, but its model may also end a document. */
  valley_config_add_stop_id (config, valley_tokenizer_lookup (model->tokenizer, "<|endoftext|>"));
  model->prompt = valley_prompt_new (model->tokenizer, config->use_special_start_end_token, error);
  if (model->prompt == NULL)
    return FALSE;
  if (!open_weights (model, cancellable, error))
    return FALSE;
  valley_stages_init (&model->stages, config, model->weights);
  return valley_weights_finish (model->weights, error);
}

/* Waits until nobody else is loading.  Looks at its own cancellable now and then, because the
 * thread that loads knows nothing of it. */
static gboolean
wait_for_others (ValleyModel *model, GCancellable *cancellable)
{
  while (model->state == VALLEY_LOAD_RUNNING) {
    if (g_cancellable_is_cancelled (cancellable))
      return FALSE;
    g_cond_wait_until (&model->changed, &model->lock,
                       g_get_monotonic_time () + 20 * G_TIME_SPAN_MILLISECOND);
  }
  return TRUE;
}

gboolean
valley_model_load (ValleyModel *model, GCancellable *cancellable, GError **error)
{
  gboolean ok;

  g_mutex_lock (&model->lock);
  ok = wait_for_others (model, cancellable);
  if (!ok || model->state == VALLEY_LOAD_DONE) {
    g_mutex_unlock (&model->lock);
    return ok || set_cancelled (error);
  }
  model->state = VALLEY_LOAD_RUNNING;
  g_mutex_unlock (&model->lock);

  ok = load (model, cancellable, error);
  if (!ok)
    unload (model);

  g_mutex_lock (&model->lock);
  model->state = ok ? VALLEY_LOAD_DONE : VALLEY_LOAD_NONE;
  g_cond_broadcast (&model->changed);
  g_mutex_unlock (&model->lock);
  return ok;
}
