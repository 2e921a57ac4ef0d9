/* which-device.h - the device that a test runs on: VALLEY_TEST_DEVICE, as the property `device` is
 * written, or the CPU.  What a test says of results holds for every one of them.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "devices.h"

static inline const char *
test_device (void)
{
  const char *name = g_getenv ("VALLEY_TEST_DEVICE");

  return name != NULL ? name : "cpu";
}

static inline gboolean
test_on_cpu (void)
{
  return g_str_equal (test_device (), "cpu");
}

/* How often to repeat what the CPU repeats @n times: a device may be an emulated one. */
static inline guint
test_rounds (guint n)
{
  return test_on_cpu () ? n : MAX (n / 8, 1);
}

static inline ValleyBackend *
test_backend_new (ValleyPrecision precision, guint threads, gboolean strict)
{
  ValleyModelOptions options = { .device = test_device () };
  ValleyBackend *backend;
  ValleyDevice device;
  GError *error = NULL;

  valley_device_resolve (&options, &device, &error);
  g_assert_no_error (error);
  backend = valley_device_open (&device, precision, threads, strict, &error);
  g_assert_no_error (error);
  return backend;
}
