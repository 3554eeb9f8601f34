/* A stand-in for libnvidia-ml.so.1, so that the tests drive the real pynvml without a card.
 *
 * NVML_STUB describes the machine: entries divided by '|', each a kind, a ':' and fields divided by ','.
 *   driver:580.65.06          the driver's version
 *   init:9                    nvmlInit fails with this code
 *   count:999                 counting the cards fails with this code
 *   card:name=N,uuid=U,total=MIB,used=MIB,cc=8.6,proc=PID/MIB,proc=PID/-1,fail=memory/4,mig=1
 *   part:uuid=U,total=MIB,used=MIB     a MIG instance of the card before it
 * `fail=FIELD/CODE` makes one question fail: handle, name, uuid, memory, capability, processes, graphics.
 * `proc=PID/-1` is a process whose memory the driver does not tell.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { CARDS = 8, PROCESSES = 8, FAILURES = 8 };
#define MIB 1048576ull
#define NOT_AVAILABLE (~0ull)

typedef struct { char field[24]; int code; } Failure;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct Card {
  char name[96], uuid[96];
  unsigned long long total, used;
  int major, minor, mig, process_count, failure_count, part_count;
  Process processes[PROCESSES];
  Failure failures[FAILURES];
  struct Card *parts[CARDS];
} Card;
typedef struct { unsigned long long total, free, used; } Memory;

static Card *cards[CARDS];
static int card_count, init_code, count_code;
static char driver[64];

static void read_field(Card *card, char *text) {
  char *value = strchr(text, '=');
  if (!value) return;
  *value++ = 0;
  if (!strcmp(text, "name")) snprintf(card->name, sizeof card->name, "%s", value);
  else if (!strcmp(text, "uuid")) snprintf(card->uuid, sizeof card->uuid, "%s", value);
  else if (!strcmp(text, "total")) card->total = strtoull(value, 0, 10) * MIB;
  else if (!strcmp(text, "used")) card->used = strtoull(value, 0, 10) * MIB;
  else if (!strcmp(text, "cc")) sscanf(value, "%d.%d", &card->major, &card->minor);
  else if (!strcmp(text, "mig")) card->mig = atoi(value);
  else if (!strcmp(text, "proc")) {
    Process *process = &card->processes[card->process_count++];
    long long used = 0;
    sscanf(value, "%u/%lld", &process->pid, &used);
    process->used = used < 0 ? NOT_AVAILABLE : (unsigned long long)used * MIB;
  } else if (!strcmp(text, "fail")) {
    Failure *failure = &card->failures[card->failure_count++];
    sscanf(value, "%23[^/]/%d", failure->field, &failure->code);
  }
}

static Card *read_card(char *fields) {
  Card *card = calloc(1, sizeof *card);
  char *rest = 0;
  for (char *text = strtok_r(fields, ",", &rest); text; text = strtok_r(0, ",", &rest)) read_field(card, text);
  return card;
}

static void read_environment(void) {
  const char *text = getenv("NVML_STUB");
  char *copy = strdup(text ? text : ""), *rest = 0;
  card_count = init_code = count_code = 0;
  for (char *entry = strtok_r(copy, "|", &rest); entry; entry = strtok_r(0, "|", &rest)) {
    char *value = strchr(entry, ':');
    if (!value) continue;
    *value++ = 0;
    if (!strcmp(entry, "driver")) snprintf(driver, sizeof driver, "%s", value);
    else if (!strcmp(entry, "init")) init_code = atoi(value);
    else if (!strcmp(entry, "count")) count_code = atoi(value);
    else if (!strcmp(entry, "card")) cards[card_count++] = read_card(value);
    else if (!strcmp(entry, "part")) {
      Card *parent = cards[card_count - 1];
      parent->parts[parent->part_count++] = read_card(value);
    }
  }
  free(copy);
}

static int failure_of(const Card *card, const char *field) {
  for (int i = 0; i < card->failure_count; i++)
    if (!strcmp(card->failures[i].field, field)) return card->failures[i].code;
  return SUCCESS;
}

static int copy_text(const Card *card, const char *field, const char *from, char *to, unsigned size) {
  int code = failure_of(card, field);
  if (!code) snprintf(to, size, "%s", from);
  return code;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; read_environment(); return init_code; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }

int nvmlSystemGetDriverVersion(char *to, unsigned size) {
  if (!driver[0]) return NOT_SUPPORTED;
  snprintf(to, size, "%s", driver);
  return SUCCESS;
}

int nvmlSystemGetProcessName(unsigned pid, char *to, unsigned size) {
  if (pid != 4000000) return NOT_FOUND;
  snprintf(to, size, "/opt/other container/trainer");
  return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = card_count; return count_code; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Card **card) {
  if (index >= (unsigned)card_count) return NOT_FOUND;
  *card = cards[index];
  return failure_of(*card, "handle");
}

int nvmlDeviceGetName(Card *card, char *to, unsigned size) { return copy_text(card, "name", card->name, to, size); }
int nvmlDeviceGetUUID(Card *card, char *to, unsigned size) { return copy_text(card, "uuid", card->uuid, to, size); }

int nvmlDeviceGetMemoryInfo(Card *card, Memory *memory) {
  memory->total = card->total;
  memory->used = card->used;
  memory->free = card->total - card->used;
  return failure_of(card, "memory");
}

int nvmlDeviceGetCudaComputeCapability(Card *card, int *major, int *minor) {
  *major = card->major;
  *minor = card->minor;
  return failure_of(card, "capability");
}

static int list_processes(const Card *card, const char *field, unsigned *count, Process *to) {
  int code = failure_of(card, field);
  unsigned room = *count;
  if (code) return code;
  *count = card->process_count;
  if (!card->process_count) return SUCCESS;
  if (!to || room < *count) return INSUFFICIENT_SIZE;
  memcpy(to, card->processes, card->process_count * sizeof *to);
  return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Card *card, unsigned *count, Process *to) {
  return list_processes(card, "processes", count, to);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Card *card, unsigned *count, Process *to) {
  return list_processes(card, "graphics", count, to);
}

int nvmlDeviceGetMigMode(Card *card, unsigned *current, unsigned *pending) {
  *current = *pending = card->mig;
  return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(Card *card, unsigned *count) { (void)card; *count = CARDS - 1; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(Card *card, unsigned index, Card **part) {
  if (index >= (unsigned)card->part_count) return NOT_FOUND;
  *part = card->parts[index];
  return SUCCESS;
}
