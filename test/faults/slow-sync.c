/*
 * A disk that is slow to sync: loaded into Redis by LD_PRELOAD, it makes fdatasync and fsync wait first. The file named
 * by SLOW_SYNC_FILE holds the wait in milliseconds and is read anew at every sync, so a test can change its mind. While
 * a sync waits, a file of the same name with ".busy" appended exists: a test can strike just then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_first(void) {
  const char *name = getenv("SLOW_SYNC_FILE");
  if (name == NULL) return;
  FILE *file = fopen(name, "r");
  long wait_ms = 0;
  if (file == NULL) return;
  if (fscanf(file, "%ld", &wait_ms) != 1) wait_ms = 0;
  fclose(file);
  if (wait_ms <= 0) return;
  char busy[4096];
  snprintf(busy, sizeof busy, "%s.busy", name);
  int mark = open(busy, O_CREAT | O_WRONLY, 0644);
  if (mark >= 0) close(mark);
  struct timespec left = {wait_ms / 1000, (wait_ms % 1000) * 1000000L};
  while (nanosleep(&left, &left) != 0) {
  }
  unlink(busy);
}

int fdatasync(int descriptor) {
  static int (*real)(int);
  if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  wait_first();
  return real(descriptor);
}

int fsync(int descriptor) {
  static int (*real)(int);
  if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  wait_first();
  return real(descriptor);
}
