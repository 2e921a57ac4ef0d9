/* devices.h - which device a model runs on: what the user wrote, and the backend it leads to.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "backend.h"

typedef struct {
  gboolean is_cuda;
  guint index;      /* of a CUDA device */
  gpointer context; /* of a CUDA device: the caller's, or NULL */
  char name[24];    /* "cpu", "cuda:0" */
} ValleyDevice;

/* What @options' device comes to on this machine; "auto" (or NULL) never fails. */
gboolean valley_device_resolve (const ValleyModelOptions *options, ValleyDevice *device,
                                GError **error);
/* @precision, or the device's best for AUTO */
ValleyPrecision valley_device_precision (const ValleyDevice *device, ValleyPrecision precision);
ValleyBackend *valley_device_open (const ValleyDevice *device, ValleyPrecision precision,
                                   guint threads, gboolean strict, GError **error);
