/* A stand-in for libnvidia-ml.so.1 whose GPUs do what a text file says.
 *
 * The file is named by the environment variable FAKE_NVML and read anew at every call; replace it in one step. Lines
 * are "key value". A key of a GPU begins with "gpu0.", one of its MIG instance with "gpu0.mig1.". What has no line is
 * NOT_SUPPORTED. A value "!15" is that return code. "KEY.delay 2000" makes the call sleep so many milliseconds first.
 *
 *   count 2               number of GPUs
 *   init !9               what nvmlInit returns
 *   generation 1          a change makes every handle dead (UNINITIALIZED) until nvmlInit is called again
 *   gpu0.lost 1           every call for the GPU returns GPU_IS_LOST
 *   gpu0.power 350000     and so on, in NVML's units
 *   gpu0.processes 41:1024,42:2048
 *   gpu0.field.230 1      a field value, unsigned 64 bits
 *   xid.3 0 79            the third event: GPU 0 tells XID 79 (XID 0: a double-bit ECC event); each is told once
 *
 * With -DOLD_DRIVER it has no symbol that came after driver 470.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { GPUS = 16, INSTANCES = 8, TEXT = 65536, WORD = 512 };

typedef struct { int gpu, mig; } Device;
typedef unsigned long long u64;

static Device devices[GPUS][INSTANCES + 1];
static long generation = -1;
static int told = 0;

static int line(const char *key, char *value) {
    char text[TEXT], *at = text;
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = strlen(key);
    if (!file) return 0;
    text[fread(text, 1, TEXT - 1, file)] = 0;
    fclose(file);
    while (at && *at) {
        char *end = strchr(at, '\n');
        if (end) *end = 0;
        if (!strncmp(at, key, length) && at[length] == ' ') {
            snprintf(value, WORD, "%s", at + length + 1);
            return 1;
        }
        at = end ? end + 1 : NULL;
    }
    return 0;
}

static int global(const char *key, char *value) {
    char name[WORD], wait[WORD];
    snprintf(name, WORD, "%s.delay", key);
    if (line(name, wait)) usleep(1000 * atoi(wait));
    if (!line(key, value)) return NOT_SUPPORTED;
    return value[0] == '!' ? atoi(value + 1) : OK;
}

static long now_generation(void) {
    char value[WORD];
    return line("generation", value) ? atol(value) : 0;
}

static int get(const Device *device, const char *field, char *value) {
    char key[WORD], lost[WORD];
    if (!device || generation != now_generation()) return UNINITIALIZED;
    snprintf(key, WORD, "gpu%d.lost", device->gpu);
    if (line(key, lost) && atoi(lost)) return LOST;
    if (device->mig < 0) snprintf(key, WORD, "gpu%d.%s", device->gpu, field);
    else snprintf(key, WORD, "gpu%d.mig%d.%s", device->gpu, device->mig, field);
    return global(key, value);
}

static int number(const Device *device, const char *field, u64 *out) {
    char value[WORD];
    int code = get(device, field, value);
    if (code == OK) *out = strtoull(value, NULL, 10);
    return code;
}

static int word(const Device *device, const char *field, unsigned *out) {
    u64 value = 0;
    int code = number(device, field, &value);
    if (code == OK) *out = (unsigned)value;
    return code;
}

static int text(const Device *device, const char *field, char *out, unsigned size) {
    char value[WORD];
    int code = get(device, field, value);
    if (code == OK) snprintf(out, size, "%s", value);
    return code;
}

int nvmlInitWithFlags(unsigned flags) {
    char value[WORD];
    int code = global("init", value);
    (void)flags;
    if (code != OK && code != NOT_SUPPORTED) return code;
    generation = now_generation();
    for (int gpu = 0; gpu < GPUS; gpu++)
        for (int mig = 0; mig <= INSTANCES; mig++) devices[gpu][mig] = (Device){gpu, mig - 1};
    return OK;
}
int nvmlShutdown(void) { generation = -1; return OK; }
const char *nvmlErrorString(int code) { (void)code; return "told by the stand-in"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    char value[WORD];
    int code = global("driver", value);
    if (code == OK) snprintf(out, size, "%s", value);
    return code;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    char value[WORD];
    int code = global("count", value);
    if (generation != now_generation()) return UNINITIALIZED;
    if (code == OK) *count = (unsigned)atoi(value);
    return code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    char key[WORD], value[WORD];
    snprintf(key, WORD, "gpu%u.lost", index);
    if (line(key, value) && atoi(value)) return LOST;
    *out = &devices[index][0];
    return index < GPUS ? OK : INVALID;
}

int nvmlDeviceGetUUID(Device *device, char *out, unsigned size) { return text(device, "uuid", out, size); }
int nvmlDeviceGetName(Device *device, char *out, unsigned size) { return text(device, "name", out, size); }
int nvmlDeviceGetPowerUsage(Device *device, unsigned *out) { return word(device, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *out) { return word(device, "power_limit", out); }
int nvmlDeviceGetTotalEnergyConsumption(Device *device, u64 *out) { return number(device, "energy", out); }
int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned *out) {
    (void)sensor;
    return word(device, "temperature", out);
}
int nvmlDeviceGetClockInfo(Device *device, int type, unsigned *out) {
    return word(device, type == 1 ? "sm_clock" : "memory_clock", out);
}
int nvmlDeviceGetMaxClockInfo(Device *device, int type, unsigned *out) {
    (void)type;
    return word(device, "max_sm_clock", out);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, u64 *out) { return number(device, "reasons", out); }
int nvmlDeviceGetTotalEccErrors(Device *device, int kind, int counter, u64 *out) {
    (void)kind;
    return number(device, counter ? "ecc_aggregate" : "ecc_volatile", out);
}
int nvmlDeviceGetUtilizationRates(Device *device, unsigned out[2]) { return word(device, "utilization", out); }
int nvmlDeviceGetMemoryInfo(Device *device, u64 out[3]) {
    int code = number(device, "memory_total", &out[0]);
    return code == OK ? number(device, "memory_used", &out[2]) : code;
}
int nvmlDeviceGetRetiredPages(Device *device, int cause, unsigned *count, u64 *pages) {
    unsigned there = 0;
    int code = word(device, cause ? "retired_double" : "retired_single", &there);
    if (code != OK) return code;
    code = pages || !there ? OK : TOO_SMALL;
    for (unsigned i = 0; pages && i < there; i++) pages[i] = 4096 * i;
    *count = there;
    return code;
}

#ifndef OLD_DRIVER
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory;
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory *out) {
    int code = number(device, "memory_total", &out->total);
    return code == OK ? number(device, "memory_used", &out->used) : code;
}
int nvmlDeviceGetCurrentClocksEventReasons(Device *device, u64 *out) { return number(device, "reasons", out); }
int nvmlDeviceGetRemappedRows(Device *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    char value[WORD];
    int code = get(device, "remapped", value);
    if (code == OK && sscanf(value, "%u %u %u %u", corrected, uncorrected, pending, failed) != 4) return INVALID;
    return code;
}
#endif

typedef struct { unsigned pid; u64 memory; unsigned instance, compute; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *out) {
    char value[WORD];
    int code = get(device, "processes", value);
    unsigned there = 0;
    if (code != OK) return code;
    for (char *at = strtok(value, ","); at; at = strtok(NULL, ",")) {
        Process found = {0, 0, -1u, -1u};
        if (sscanf(at, "%u:%llu", &found.pid, &found.memory) == 2 && out && there < *count) out[there] = found;
        there++;
    }
    code = out || !there ? OK : TOO_SMALL;
    *count = there;
    return code;
}

typedef struct { unsigned field, scope; long long at, latency; int type, code; u64 value; } Field;
int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    char value[WORD], key[64];
    int code = get(device, "fields", value);
    if (code != OK) return code;
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "field.%u", fields[i].field);
        fields[i].code = number(device, key, &fields[i].value);
        fields[i].type = 3;
    }
    return OK;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *now, unsigned *next) {
    int code = word(device, "mig", now);
    *next = *now;
    return code;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) { (void)device; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **out) {
    char key[WORD], value[WORD];
    snprintf(key, WORD, "gpu%d.mig%u.uuid", device->gpu, index);
    if (!line(key, value)) return NOT_FOUND;
    *out = &devices[device->gpu][index + 1];
    return OK;
}
int nvmlDeviceGetAttributes_v2(Device *device, unsigned out[10]) {
    char value[WORD];
    int code = get(device, "attributes", value);
    if (code == OK && sscanf(value, "%u %llu", &out[6], (u64 *)&out[8]) != 2) return INVALID;
    return code;
}

typedef struct { Device *device; u64 type, data; unsigned instance, compute; } Event;
int nvmlEventSetCreate(void **out) { *out = &told; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceGetSupportedEventTypes(Device *device, u64 *out) { return number(device, "events", out); }
int nvmlDeviceRegisterEvents(Device *device, u64 types, void *set) { (void)set; return device && types ? OK : INVALID; }
int nvmlEventSetWait_v2(void *set, Event *out, unsigned timeout_ms) {
    (void)set;
    for (unsigned waited = 0;; waited += 2) {
        char key[64], value[WORD];
        int gpu, xid;
        if (generation != now_generation()) return UNINITIALIZED;
        snprintf(key, sizeof key, "xid.%d", told + 1);
        if (line(key, value) && sscanf(value, "%d %d", &gpu, &xid) == 2) {
            told++;
            *out = (Event){gpu < GPUS ? &devices[gpu][0] : NULL, xid ? 8 : 2, (u64)xid, -1u, -1u};
            return OK;
        }
        if (waited >= timeout_ms) return TIMEOUT;
        usleep(2000);
    }
}
