/* valley.c - the command line `valley`: chooses the command, prints help and errors.
 * Exit status: 0 done, 1 failed, 2 wrong usage.  Text goes out as UTF-8 whatever the locale is
 * (g_print would convert it), and messages stay English.
 * SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

/* Pictures of a few such windows are held in memory. */
#define MAX_BENCH_WINDOW 1024

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE };

static const char help[]
    = "valley - ask a Valley2 model about pictures or frames of a video\n"
      "\n"
      "USAGE\n"
      "  valley run [--model DIR] --frames FILE... --prompt TEXT [OPTIONS]\n"
      "  valley run [--model DIR] --image FILE --prompt TEXT [OPTIONS]\n"
      "  valley inspect [DIR] [--json]\n"
      "  valley bench windows [--model DIR | --config FILE] [OPTIONS]\n"
      "  valley bench gpu [--model DIR | --config FILE] [OPTIONS]\n"
      "  valley --version | --help\n"
      "\n"
      "COMMANDS\n"
      "  run      prints the model's answer, as it is generated\n"
      "  inspect  reports on a checkpoint folder: architecture, tensors, memory it will need, "
      "what\n"
      "           is missing, unused or misshapen; exit status 1 when it cannot be run\n"
      "  bench    windows: what window policies cost beside recomputing every window;\n"
      "           gpu: what each stage costs on the device, and a second of a stream\n"
      "\n"
      "OPTIONS OF run\n"
      "  --model DIR           a checkpoint in Hugging Face's layout; default: the bundled one\n"
      "  --frames FILE...      a window of video: pictures in order, never tiled\n"
      "  --image FILE          one still picture, tiled as the model does\n"
      "  --prompt TEXT         the question\n"
      "  --system TEXT         the system prompt; default: \"You are a helpful assistant.\"\n"
      "  --max-new-tokens N    longest answer; default: 100\n"
      "  --max-vision-tokens N budget of the --frames' vision tokens; 0 (the default): none\n"
      "  --reduction LIST      how it is met: pool+eagle (the default), none, or any of pool,\n"
      "                        eagle, drop and close with + between them\n"
      "  --temperature T       0 (the default) takes the likeliest token\n"
      "  --top-k K             sample among the K likeliest; 0: all\n"
      "  --top-p P             sample among the likeliest that make up P; 0 or 1: all\n"
      "  --seed S              of the sampling\n"
      "  --markers M           sections such as <think> in the answer: keep (the default),\n"
      "                        strip all but the answer proper, or split: below the answer\n"
      "  --device D            cpu, cuda, cuda:N, or auto (the default): the first GPU, else the CPU\n"
      "  --precision P         auto (the default), f32, bf16, or on a GPU f16\n"
      "  --threads N           worker threads; 0 (the default): one a core\n"
      "  --logits FILE.npy     writes every step's logits, float32 [steps, vocabulary]\n"
      "  --dump DIR            writes every stage's activations as .npy\n"
      "  --metrics             prints token counts and times to standard error\n"
      "\n"
      "OPTIONS OF inspect\n"
      "  --json                a JSON object instead of a text\n"
      "\n"
      "OPTIONS OF bench windows\n"
      "  --window W, --hop H   frames of a window, and between two; default: 4, 8, 16 and 32,\n"
      "                        with hops 1, 2, 4 ... W\n"
      "  --windows N           how many are compared with recomputation, each; default: 5,\n"
      "                        with --json 9, and more while there is time\n"
      "  --csv FILE            writes every figure\n"
      "  --json                a JSON object instead of a table, with all savings on\n"
      "  --config FILE         a checkpoint's config.json instead of a model: its weights are\n"
      "                        random, its tokenizer is the bundled model's\n"
      "  --layers N            keep N of its decoder's layers, and the towers' in proportion\n"
      "  --model, --device, --precision, --threads, --prompt, --max-new-tokens (default: 16)\n"
      "\n"
      "OPTIONS OF bench gpu\n"
      "  --window W, --hop H   of the stream, which has 25 frames a second; default: 32 and 25\n"
      "  --config, --layers, --model, --device, --precision, --threads, --prompt,\n"
      "  --max-new-tokens (default: 30)\n"
      "\n"
      "EXIT STATUS\n"
      "  0 done, 1 failed (the reason is on standard error), 2 wrong usage\n"
      "\n"
      "ENVIRONMENT\n"
      "  VALLEY_MODEL_DIR      where the bundled model is looked for first\n"
      "\n"
      "EXAMPLE\n"
      "  valley run --frames 1.png 2.png 3.png --prompt \"Describe the video.\"\n";

static int
usage_error (const char *message)
{
  fprintf (stderr, "valley: %s\nTry: valley --help\n", message);
  return EXIT_USAGE;
}

static int
failure (const GError *error)
{
  fprintf (stderr, "valley: %s\n", error->message);
  return EXIT_FAILED;
}

static int
run (const Options *options)
{
  g_autoptr (GError) error = NULL;

  if (options->arguments->len > 0)
    return usage_error ("run: expected options only (pictures follow --frames or --image)");
  if ((options->frames->len > 0) == (options->image != NULL))
    return usage_error ("run: expected either --frames or --image");
  if (options->prompt == NULL)
    return usage_error ("run: expected --prompt TEXT");
  if (options->image != NULL && options->reduction.max_vision_tokens > 0)
    return usage_error ("run: --max-vision-tokens is for --frames; a still picture has its model's "
                        "own budget");
  return run_command (options, &error) ? EXIT_DONE : failure (error);
}

static int
inspect (const Options *options)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dir = NULL, *report = NULL;
  gboolean complete = FALSE;

  if (options->arguments->len > 1)
    return usage_error ("inspect: expected one folder");
  dir = options->arguments->len == 1 ? g_strdup (g_ptr_array_index (options->arguments, 0))
                                     : valley_default_model_dir ();
  if (dir == NULL)
    return usage_error ("inspect: the bundled model was not found; expected a folder");
  report = valley_inspect (dir, options->json, &complete, &error);
  if (report == NULL)
    return failure (error);
  printf ("%s%s", report, g_str_has_suffix (report, "\n") ? "" : "\n");
  if (fflush (stdout) != 0 || ferror (stdout)) {
    fprintf (stderr, "valley: cannot write to standard output\n");
    return EXIT_FAILED;
  }
  return complete ? EXIT_DONE : EXIT_FAILED;
}

static int
bench (const Options *options)
{
  g_autoptr (GError) error = NULL;

  if (options->arguments->len != 1
      || (strcmp (g_ptr_array_index (options->arguments, 0), "windows") != 0
          && strcmp (g_ptr_array_index (options->arguments, 0), "gpu") != 0))
    return usage_error ("bench: expected \"windows\" or \"gpu\" after it");
  if (options->config != NULL && options->model_dir != NULL)
    return usage_error ("bench: expected either --model or --config");
  if (options->layers != 0 && options->config == NULL)
    return usage_error ("bench: --layers needs --config");
  if (options->window > MAX_BENCH_WINDOW || options->windows > MAX_BENCH_WINDOW)
    return usage_error ("bench: expected at most 1024 for --window and --windows");
  if (options->window != 0 && options->hop > options->window)
    return usage_error ("bench: expected a --hop no longer than the --window");
  if (strcmp (g_ptr_array_index (options->arguments, 0), "gpu") == 0)
    return bench_gpu_command (options, &error) ? EXIT_DONE : failure (error);
  return bench_windows_command (options, &error) ? EXIT_DONE : failure (error);
}

static int
dispatch (const char *name, int argc, char **argv)
{
  Command command = strcmp (name, "run") == 0       ? COMMAND_RUN
                    : strcmp (name, "inspect") == 0 ? COMMAND_INSPECT
                    : strcmp (name, "bench") == 0   ? COMMAND_BENCH
                                                    : 0;
  g_autoptr (GError) error = NULL;
  Options options;
  int status;

  if (command == 0) {
    g_autofree char *message
        = g_strdup_printf ("expected the command run, inspect or bench, found \"%s\"", name);

    return usage_error (message);
  }
  options_init (&options);
  if (!options_parse (&options, command, argc, argv, &error))
    status = usage_error (error->message);
  else
    status = command == COMMAND_RUN       ? run (&options)
             : command == COMMAND_INSPECT ? inspect (&options)
                                          : bench (&options);
  options_clear (&options);
  return status;
}

static gboolean
asks_for_help (const char *word)
{
  return strcmp (word, "--help") == 0 || strcmp (word, "-h") == 0;
}

int
main (int argc, char **argv)
{
  if (argc < 2)
    return usage_error ("expected the command run, inspect or bench");
  if (asks_for_help (argv[1]) || (argc > 2 && asks_for_help (argv[2]))) {
    fputs (help, stdout);
    return EXIT_DONE;
  }
  if (strcmp (argv[1], "--version") == 0) {
    printf ("valley %s\n", valley_version ());
    return EXIT_DONE;
  }
  return dispatch (argv[1], argc - 2, argv + 2);
}
