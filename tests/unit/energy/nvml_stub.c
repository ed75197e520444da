/* A libnvidia-ml.so.1 of our own, for tests: enough of NVML's interface to drive the real Python binding.
 *
 * Written from the public interface (structs and codes), with nothing of the library in it. The file named
 * by FAKE_NVML describes the GPUs and the power curve and is read again at every call:
 *
 *     now <seconds>
 *     curve <seconds> <watts>              power is straight between the points, and zero before the first
 *     gpu <uuid> <name> <architecture> <share> <energy rc> <usage rc> <instant rc> <average rc> <module rc> <flags>
 *
 * A GPU draws <share> of the curve. An rc is the nvmlReturn_t of that figure. Flags: - or a string of
 * m (MIG is on), l (lost), s (a slice of the GPU on the line before). Underscores in a name are blanks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, GPU_IS_LOST = 15, UNKNOWN = 999 };
enum { MOST = 16 };

typedef union {
    double dVal;
    unsigned int uiVal;
    unsigned long ulVal;
    unsigned long long ullVal;
    signed long long sllVal;
    int siVal;
    unsigned short usVal;
} nvmlValue_t;

typedef struct {
    unsigned int fieldId;
    unsigned int scopeId;
    long long timestamp;
    long long latencyUsec;
    int valueType;
    int nvmlReturn;
    nvmlValue_t value;
} nvmlFieldValue_t;

typedef struct {
    char uuid[64], name[64], flags[8];
    int architecture, energy, usage, instant, average, module;
    double share;
} Gpu;

typedef struct {
    int gpus, points;
    double now, at[MOST], watts[MOST];
    Gpu gpu[MOST];
} Host;

static int devices[MOST]; /* a handle is the address of its GPU's number */

static Host host(void) {
    Host h = {0};
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    while (file && fgets(line, sizeof line, file)) {
        Gpu *g = &h.gpu[h.gpus];
        if (h.gpus < MOST && sscanf(line, "gpu %63s %63s %d %lf %d %d %d %d %d %7s", g->uuid, g->name, &g->architecture,
                                    &g->share, &g->energy, &g->usage, &g->instant, &g->average, &g->module,
                                    g->flags) == 10) {
            for (char *c = g->name; *c; c++) *c = *c == '_' ? ' ' : *c;
            h.gpus++;
        } else if (h.points < MOST && sscanf(line, "curve %lf %lf", &h.at[h.points], &h.watts[h.points]) == 2) {
            h.points++;
        } else {
            sscanf(line, "now %lf", &h.now);
        }
    }
    if (file) fclose(file);
    return h;
}

static double watts(const Host *h, double t) {
    for (int i = 1; i < h->points; i++)
        if (t >= h->at[i - 1] && t <= h->at[i])
            return h->watts[i - 1] + (h->watts[i] - h->watts[i - 1]) * (t - h->at[i - 1]) / (h->at[i] - h->at[i - 1]);
    return 0;
}

static double joules(const Host *h) {
    double sum = 0;
    for (int i = 1; i < h->points && h->at[i - 1] < h->now; i++) {
        double end = h->at[i] < h->now ? h->at[i] : h->now;
        sum += (h->watts[i - 1] + watts(h, end)) / 2 * (end - h->at[i - 1]);
    }
    return sum;
}

static int of(void *device, const Host *h, Gpu *gpu) {
    int index = (int)((int *)device - devices);
    if (index < 0 || index >= h->gpus) return INVALID_ARGUMENT;
    *gpu = h->gpu[index];
    return strchr(gpu->flags, 'l') ? GPU_IS_LOST : SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) { return flags ? INVALID_ARGUMENT : host().gpus ? SUCCESS : UNKNOWN; }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    return code == NOT_SUPPORTED ? "Not Supported" : code == GPU_IS_LOST ? "GPU is lost" : "Unknown Error";
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = host().gpus;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = &devices[index];
    return index < (unsigned int)host().gpus ? SUCCESS : INVALID_ARGUMENT;
}

#define ASK(fails)               \
    Host h = host();             \
    Gpu gpu = {0};               \
    int rc = of(device, &h, &gpu); \
    if (rc || (rc = (fails))) return rc

int nvmlDeviceGetUUID(void *device, char *text, unsigned int length) {
    ASK(0);
    snprintf(text, length, "%s", gpu.uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned int length) {
    ASK(0);
    snprintf(text, length, "%s", gpu.name);
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(void *device, unsigned int *architecture) {
    ASK(0);
    *architecture = gpu.architecture;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    ASK(0);
    *current = *pending = strchr(gpu.flags, 'm') != NULL;
    return SUCCESS;
}

int nvmlDeviceIsMigDeviceHandle(void *device, unsigned int *is) {
    ASK(0);
    *is = strchr(gpu.flags, 's') != NULL;
    return SUCCESS;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **parent) {
    Host h = host();
    int *slice = device;
    while (slice > devices && strchr(h.gpu[slice - devices].flags, 's')) slice--;
    *parent = slice;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    ASK(gpu.energy);
    *millijoules = (unsigned long long)(joules(&h) * gpu.share * 1000 + 0.5);
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    ASK(gpu.usage);
    *milliwatts = (unsigned int)(watts(&h, h.now) * gpu.share * 1000 + 0.5);
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(void *device, int count, nvmlFieldValue_t *values) {
    ASK(0);
    for (int i = 0; i < count; i++) {
        nvmlFieldValue_t *v = &values[i];
        int known = v->fieldId == 186 || v->fieldId == 185;
        v->nvmlReturn = !known ? NOT_SUPPORTED : v->scopeId == 1 ? gpu.module : v->fieldId == 186 ? gpu.instant : gpu.average;
        v->timestamp = (long long)(h.now * 1e6);
        v->valueType = 1;
        v->value.ullVal = ~0ull; /* only the member that the type names is to be read */
        v->value.uiVal = (unsigned int)(watts(&h, h.now) * gpu.share * 1000 + 0.5);
    }
    return SUCCESS;
}
