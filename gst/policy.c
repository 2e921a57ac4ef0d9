/* policy.c - how windows share what was computed: the policy that the settings ask for, and
 * whether the memory that they allow is enough for it.  Decided as a window opens, before
 * anything is computed under it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

static gboolean
admits (GstValleyInfer *self, const ValleyWindowing *windowing, const ValleyInputSizes *sizes,
        GError **error)
{
  g_autoptr (GError) reason = NULL;
  guint64 bytes = 0;

  if (valley_model_admits (self->model, windowing, sizes, &bytes, &reason)) {
    GST_DEBUG_OBJECT (self, "window policy %d needs at most %" G_GUINT64_FORMAT " bytes",
                      windowing->policy, bytes);
    return TRUE;
  }
  g_prefix_error (&reason, "window-policy=%s: ", gst_valley_window_policy_nick (windowing->policy));
  if (windowing->cache_max_bytes > 0 && bytes > windowing->cache_max_bytes
      && g_error_matches (reason, VALLEY_ERROR, VALLEY_ERROR_MEMORY))
    g_set_error (error, reason->domain, reason->code, "%s, or a larger cache-max-bytes",
                 reason->message);
  else
    g_propagate_error (error, g_steal_pointer (&reason));
  return FALSE;
}

/* Says once that the policy cannot be had. */
static void
refuse (GstValleyInfer *self, const GError *reason, const gchar *instead)
{
  g_autoptr (GError) error
      = g_error_new (reason->domain, reason->code, "%s; %s", reason->message, instead);

  if (g_strcmp0 (self->refused, error->message) == 0)
    return;
  g_free (self->refused);
  self->refused = g_strdup (error->message);
  gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_WARNING, error));
}

/* Windows of many more frames than the model can be shown would be encoded for nothing, and fill
 * the memory: of these only as many slots are used as leave a choice. */
void
gst_valley_infer_configure_windows (GstValleyInfer *self, guint width, guint height)
{
  ValleyWindowConfig config = gst_valley_settings_window_config (&self->applied);
  ValleyReduction reduction = gst_valley_settings_reduction (&self->applied);
  const ValleyWindowConfig *next
      = self->windows.config_changed ? &self->windows.next_config : &self->windows.config;
  ValleyInputSizes sizes;
  guint frames, hop, most = 0;

  if (self->configured_serial == self->applied_serial && self->configured_width == width
      && self->configured_height == height)
    return; /* as for nearly every frame */
  self->configured_serial = self->applied_serial;
  self->configured_width = width;
  self->configured_height = height;
  valley_window_config_frames (&config, &frames, &hop);
  if (valley_model_input_sizes (self->model, width, height, &reduction, &sizes, NULL)) {
    most = valley_model_most_frames (self->model, &sizes);
    if (most > 0 && frames / 4 > most)
      config.stride = frames / (2 * most);
  }
  if (valley_window_config_equal (&config, next))
    return;
  valley_windows_configure (&self->windows, &config);
  if (config.stride > 1 && config.stride != self->stride) {
    g_autoptr (GError) error = g_error_new (
        VALLEY_ERROR, VALLEY_ERROR_CONTEXT,
        "windows of %u frames, of which the model's max_position_embeddings lets it be shown about "
        "%u: only one in %u is taken; expected a lower frame-rate or chunk-duration",
        frames, most, config.stride);

    gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_WARNING, error));
  }
  self->stride = config.stride;
}

gboolean
gst_valley_infer_choose_policy (GstValleyInfer *self, guint width, guint height)
{
  ValleyWindowing wanted = gst_valley_settings_windowing (&self->applied, &self->windows.config);
  gboolean automatic = self->applied.window_policy == GST_VALLEY_WINDOW_POLICY_AUTO;
  g_autoptr (GError) error = NULL;
  ValleyInputSizes sizes;

  /* A size that the model cannot be shown is reported when the frame is. */
  if (!valley_model_input_sizes (self->model, width, height, &self->reduction, &sizes, NULL))
    return TRUE;
  if (admits (self, &wanted, &sizes, &error)) {
    g_clear_pointer (&self->refused, g_free);
  } else if (automatic && wanted.policy != VALLEY_WINDOWS_TUMBLING) {
    refuse (self, error, "windows are tumbling, which computes shared frames again");
    wanted.policy = VALLEY_WINDOWS_TUMBLING;
  } else if (automatic) {
    refuse (self, error, "windows that are as large as that will fail");
  } else if (!self->have_windowing) {
    gst_valley_infer_post (self, gst_valley_infer_new_message (self, GST_MESSAGE_ERROR, error));
    return FALSE;
  } else {
    refuse (self, error, "the policy so far goes on");
    self->windowing.window_frames = wanted.window_frames;
    self->windowing.hop_frames = wanted.hop_frames;
    return TRUE;
  }
  self->windowing = wanted;
  self->have_windowing = TRUE;
  return TRUE;
}
