/* test-wing.c - the names of devices, and a CUDA wing that is missing or of no use.
 *
 * VALLEY_TEST_WING_OTHER names a wing of another interface, VALLEY_TEST_NO_WING a library that
 * is none.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "devices.h"
#include "scratch.h"

static void
expect (const char *device, const char *words)
{
  ValleyModelOptions options = { .device = device };
  g_autoptr (GError) error = NULL;
  ValleyDevice found;

  g_assert_false (valley_device_resolve (&options, &found, &error));
  g_assert_error (error, VALLEY_ERROR, VALLEY_ERROR_DEVICE);
  g_test_message ("%s", error->message);
  if (strstr (error->message, device) == NULL || strstr (error->message, words) == NULL)
    g_error ("device \"%s\" says \"%s\", which lacks \"%s\"", device, error->message, words);
}

static void
test_names (void)
{
  static const char *const odd[]
      = { "", "CPU", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda: 1", "cuda:99999999999", "cuda0" };
  ValleyModelOptions options = { .device = "cpu" };
  ValleyDevice found;

  for (gsize i = 0; i < G_N_ELEMENTS (odd); i++)
    expect (odd[i], "expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"");
  g_assert_true (valley_device_resolve (&options, &found, NULL));
  g_assert_cmpstr (found.name, ==, "cpu");
}

/* "auto" is the CPU, whatever is wrong with the wing. */
static void
expect_cpu (void)
{
  ValleyModelOptions options = { .device = "auto" };
  ValleyDevice found;

  g_assert_true (valley_device_resolve (&options, &found, NULL));
  g_assert_cmpstr (found.name, ==, "cpu");
  options.device = NULL;
  g_assert_true (valley_device_resolve (&options, &found, NULL));
  g_assert_false (found.is_cuda);
}

static void
test_missing (void)
{
  g_setenv ("VALLEY_CUDA_WING", "/nonexistent/wing.so", TRUE);
  expect ("cuda", "looked for /nonexistent/wing.so (VALLEY_CUDA_WING can name it)");
  expect ("cuda:1", "is not there");
  expect_cpu ();
}

static void
test_no_library (void)
{
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, "wing.so", NULL);

  scratch_write (dir, "wing.so", "no library\n", 11);
  g_setenv ("VALLEY_CUDA_WING", path, TRUE);
  expect ("cuda", path);
  expect_cpu ();
  scratch_remove (dir);
}

static void
test_no_wing (void)
{
  g_setenv ("VALLEY_CUDA_WING", g_getenv ("VALLEY_TEST_NO_WING"), TRUE);
  expect ("cuda", "valley_wing");
  expect_cpu ();
}

static void
test_other_version (void)
{
  g_setenv ("VALLEY_CUDA_WING", g_getenv ("VALLEY_TEST_WING_OTHER"), TRUE);
  expect ("cuda", "built for another engine");
  expect_cpu ();
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_assert_nonnull (g_getenv ("VALLEY_TEST_WING_OTHER"));
  g_assert_nonnull (g_getenv ("VALLEY_TEST_NO_WING"));
  g_test_add_func ("/wing/names", test_names);
  g_test_add_func ("/wing/missing", test_missing);
  g_test_add_func ("/wing/no-library", test_no_library);
  g_test_add_func ("/wing/no-wing", test_no_wing);
  g_test_add_func ("/wing/other-version", test_other_version);
  return g_test_run ();
}
