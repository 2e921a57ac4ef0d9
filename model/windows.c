/* windows.c - window policies: their settings and the memory that they need.
 * SPDX-License-Identifier: Apache-2.0 */
#include "windows.h"

#include "engine.h"

/* Rows of text and answer that a sequence is taken to need at most; longer ones still work. */
#define TEXT_ROWS 1024

gboolean
valley_windowing_check (const ValleyWindowing *windowing, GError **error)
{
  if (windowing->policy != VALLEY_WINDOWS_TUMBLING) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "window policy %d is not in this build; expected tumbling", windowing->policy);
    return FALSE;
  }
  if (windowing->cache_max_bytes != 0) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_ARGUMENT,
                 "a cache of %" G_GUINT64_FORMAT " bytes; this build bounds none, expected 0",
                 windowing->cache_max_bytes);
    return FALSE;
  }
  return TRUE;
}

/* Of one frame of @sizes, after the connector. */
static gsize
frame_rows (const ValleyConfig *config, const ValleyInputSizes *sizes)
{
  gsize cell = config->eagle.patch_size * config->eagle.spatial_merge_size, rows = 0;

  if (config->has_siglip) {
    gsize side = sizes->siglip_side != 0 ? sizes->siglip_side : valley_config_tile_side (config, 1);

    rows += side * side;
  }
  if (config->has_eagle)
    rows += sizes->eagle_width / cell * (sizes->eagle_height / cell);
  return rows;
}

gboolean
valley_model_admits (ValleyModel *model, const ValleyWindowing *windowing,
                     const ValleyInputSizes *sizes, guint64 *bytes, GError **error)
{
  const ValleyLlmConfig *llm = &model->config->llm;
  guint64 rows = (guint64) windowing->window_frames * frame_rows (model->config, sizes);
  guint64 row_kv = 2 * (guint64) llm->n_layers * llm->n_kv_heads * llm->head_dim
                   * (model->precision == VALLEY_PRECISION_BF16 ? 2 : 4);

  if (!valley_windowing_check (windowing, error))
    return FALSE;
  *bytes = rows * llm->hidden_size * sizeof (float) + (rows + TEXT_ROWS) * row_kv;
  return TRUE;
}
