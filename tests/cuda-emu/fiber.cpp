/* fiber.cpp - a stack for each thread of a block, and the switch between them.
 *
 * A switch must cost nanoseconds: a kernel of a few blocks makes millions.  ucontext, which asks
 * the kernel for the signal mask each time, is for machines nobody wrote assembly for (or for
 * -DEMU_UCONTEXT, to try it).
 * SPDX-License-Identifier: Apache-2.0 */
#include "emu_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__) && !defined(EMU_UCONTEXT)
#define EMU_UCONTEXT
#endif
#ifdef EMU_UCONTEXT
#include <ucontext.h>
#endif
#if defined(__has_feature) /* clang's way to say it */
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define MAX_FIBERS 1024
#define GUARD_BYTES ((size_t) 4096)
#ifdef __SANITIZE_ADDRESS__
#define STACK_BYTES ((size_t) 256 << 10)
#else
#define STACK_BYTES ((size_t) 64 << 10)
#endif

#ifndef EMU_UCONTEXT
typedef void *Context;

extern "C" void emu_switch (Context *save, Context to);

/* Only what a callee must keep; floating-point modes are nobody's to change.  A jump and no return
 * at the end: the processor foresees where a return goes from the calls before it, which were
 * another stack's, and each wrong guess takes longer than all the rest. */
asm(".text\n"
    ".globl emu_switch\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "  pushq %rbp\n"
    "  pushq %rbx\n"
    "  pushq %r12\n"
    "  pushq %r13\n"
    "  pushq %r14\n"
    "  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    "  popq %rcx\n"
    "  jmp *%rcx\n"
    ".size emu_switch, . - emu_switch\n");

static void
context_init (Context *context, char *stack, size_t bytes, void (*entry) (void))
{
  void **top = (void **) (stack + bytes);

  *--top = NULL; /* keeps the stack aligned as a call would have left it */
  *--top = (void *) entry;
  for (int i = 0; i < 6; i++)
    *--top = NULL;
  *context = top;
}

static void
context_switch (Context *save, Context *to)
{
  emu_switch (save, *to);
}
#else
typedef ucontext_t Context;

static void
context_init (Context *context, char *stack, size_t bytes, void (*entry) (void))
{
  getcontext (context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = bytes;
  context->uc_link = NULL;
  makecontext (context, entry, 0);
}

static void
context_switch (Context *save, Context *to)
{
  swapcontext (save, to);
}
#endif

static char *stacks;
static Context contexts[MAX_FIBERS], scheduler;
static void (*entries[MAX_FIBERS]) (void);
static int running = -1;

static char *
stack_of (unsigned index)
{
  return stacks + index * (GUARD_BYTES + STACK_BYTES) + GUARD_BYTES;
}

/* The address sanitizer wants to know on which stack it is. */
#ifdef __SANITIZE_ADDRESS__
static const void *scheduler_stack;
static size_t scheduler_bytes;
static void *fake_stacks[MAX_FIBERS], *scheduler_fake;
static bool left_behind[MAX_FIBERS]; /* not yet ended */

/* A thread that ended left nothing marked, one that the kernel's end overtook did. */
static void
clean_stack (unsigned index)
{
  if (left_behind[index])
    __asan_unpoison_memory_region (stack_of (index), STACK_BYTES);
  left_behind[index] = true;
  fake_stacks[index] = NULL;
}

static void
leave_scheduler (void)
{
  __sanitizer_start_switch_fiber (&scheduler_fake, stack_of (running), STACK_BYTES);
}

static void
arrive_in_scheduler (void)
{
  __sanitizer_finish_switch_fiber (scheduler_fake, NULL, NULL);
}

static void
arrive_in_fiber (void)
{
  __sanitizer_finish_switch_fiber (fake_stacks[running], &scheduler_stack, &scheduler_bytes);
}

static void
leave_fiber (bool for_good)
{
  left_behind[running] = !for_good;
  __sanitizer_start_switch_fiber (for_good ? NULL : &fake_stacks[running], scheduler_stack,
                                  scheduler_bytes);
}
#else
static void
leave_scheduler (void)
{
}
static void
clean_stack (unsigned)
{
}
static void
arrive_in_scheduler (void)
{
}
static void
arrive_in_fiber (void)
{
}
static void
leave_fiber (bool)
{
}
#endif

static void
fiber_main (void)
{
  arrive_in_fiber ();
  entries[running]();
  emu_fiber_quit ();
}

static void
make_stacks (void)
{
  size_t bytes = MAX_FIBERS * (GUARD_BYTES + STACK_BYTES);
  void *map = mmap (NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (map == MAP_FAILED) {
    perror ("cuda-emu: stacks for the threads of a block");
    exit (1);
  }
  stacks = (char *) map;
  for (unsigned i = 0; i < MAX_FIBERS; i++)
    mprotect (stack_of (i) - GUARD_BYTES, GUARD_BYTES, PROT_NONE);
}

void
emu_fiber_start (unsigned index, void (*entry) (void))
{
  if (stacks == NULL)
    make_stacks ();
  clean_stack (index);
  entries[index] = entry;
  context_init (&contexts[index], stack_of (index), STACK_BYTES, fiber_main);
}

void
emu_fiber_run (unsigned index)
{
  running = (int) index;
  leave_scheduler ();
  context_switch (&scheduler, &contexts[index]);
  arrive_in_scheduler ();
  running = -1;
}

void
emu_fiber_pause (void)
{
  leave_fiber (false);
  context_switch (&contexts[running], &scheduler);
  arrive_in_fiber ();
}

void
emu_fiber_quit (void)
{
  leave_fiber (true);
  context_switch (&contexts[running], &scheduler);
  abort (); /* nobody starts a finished fiber */
}

bool
emu_fiber_is_running (void)
{
  return running >= 0;
}
