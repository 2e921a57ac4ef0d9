/* devices.c - "auto", "cpu", "cuda", "cuda:N" and what is behind them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "devices.h"

#include <string.h>

#include "cpu/cpu.h"
#include "wing.h"

/* "cuda" is the first device. */
static gboolean
parse_index (const char *text, guint *index, GError **error)
{
  guint64 number = 0;

  if (strcmp (text, "cuda") == 0
      || (g_str_has_prefix (text, "cuda:")
          && g_ascii_string_to_unsigned (text + strlen ("cuda:"), 10, 0, G_MAXINT, &number,
                                         NULL))) {
    *index = (guint) number;
    return TRUE;
  }
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
               "device \"%s\" does not exist; expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"",
               text);
  return FALSE;
}

static gboolean
find_cuda (guint index, GError **error)
{
  const ValleyWing *wing = valley_wing_open (error);
  guint n = wing != NULL ? wing->n_devices (error) : 0;

  if (n == 0)
    return FALSE;
  if (index < n)
    return TRUE;
  if (n == 1)
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE, "the only CUDA device is cuda:0");
  else
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE,
                 "the CUDA devices are cuda:0 ... cuda:%u", n - 1);
  return FALSE;
}

gboolean
valley_device_resolve (const ValleyModelOptions *options, ValleyDevice *device, GError **error)
{
  const char *text = options->device != NULL ? options->device : "auto";
  gboolean is_auto = strcmp (text, "auto") == 0;
  g_autoptr (GError) reason = NULL;

  *device = (ValleyDevice){ .name = "cpu" };
  if (strcmp (text, "cpu") == 0)
    return TRUE;
  if (!is_auto && !parse_index (text, &device->index, error))
    return FALSE;
  if (find_cuda (device->index, &reason)) {
    device->is_cuda = TRUE;
    device->context = options->cuda_context;
    g_snprintf (device->name, sizeof device->name, "cuda:%u", device->index);
    return TRUE;
  }
  if (is_auto) {
    g_debug ("device \"auto\" is the CPU: %s", reason->message);
    return TRUE;
  }
  g_propagate_prefixed_error (error, g_steal_pointer (&reason), "device \"%s\": ", text);
  return FALSE;
}

ValleyPrecision
valley_device_precision (const ValleyDevice *device, ValleyPrecision precision)
{
  if (precision != VALLEY_PRECISION_AUTO)
    return precision;
  return device->is_cuda || valley_cpu_has_native_bf16 () ? VALLEY_PRECISION_BF16
                                                          : VALLEY_PRECISION_F32;
}

ValleyBackend *
valley_device_open (const ValleyDevice *device, ValleyPrecision precision, guint threads,
                    gboolean strict, GError **error)
{
  const ValleyWing *wing;
  ValleyBackend *backend;

  if (!device->is_cuda)
    return valley_cpu_backend_new (precision, threads, strict, error);
  wing = valley_wing_open (error);
  backend
      = wing != NULL ? wing->backend_new (device->index, device->context, precision, error) : NULL;
  if (backend == NULL)
    g_prefix_error (error, "device \"%s\": ", device->name);
  return backend;
}
