/* Counts: `add N` adds to the count of the session and replies it, `get` replies it. */
#include "odeum.h"

static const char COUNT[] = "count";
static const char EXPECTED[] = "expected `add N` or `get`";

/* One place for all messages: each ends before the next begins. */
static char place[1 << 20];

ODEUM_EXPORT(odeum_alloc) char *odeum_alloc(size_t len) { return len <= sizeof place ? place : NULL; }

/* A number at the beginning of a text; whether all of the text is one. */
static int number(const char *text, size_t len, long long *value) {
    size_t at = len > 0 && text[0] == '-';
    if (at == len || len > 18) return 0;
    long long sum = 0;
    for (size_t i = at; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return 0;
        sum = sum * 10 + (text[i] - '0');
    }
    *value = at ? -sum : sum;
    return 1;
}

/* Whether a text begins with these bytes. */
static int begins(const char *text, size_t len, const char *with, size_t with_len) {
    if (len < with_len) return 0;
    for (size_t i = 0; i < with_len; i++)
        if (text[i] != with[i]) return 0;
    return 1;
}

/* Writes a number to the end of `out`; where it begins. */
static char *digits(long long value, char *end) {
    unsigned long long rest = value < 0 ? -(unsigned long long)value : (unsigned long long)value;
    do *--end = (char)('0' + rest % 10); while (rest /= 10);
    if (value < 0) *--end = '-';
    return end;
}

ODEUM_EXPORT(odeum_handle) int odeum_handle(const char *message, size_t len) {
    char text[32];
    long long count = 0, added = 0;
    int have = odeum_var_get(COUNT, sizeof COUNT - 1, text, sizeof text);
    if (have > 0 && !number(text, (size_t)have, &count)) count = 0;
    int adds = begins(message, len, "add ", 4);
    int gets = len == 3 && begins(message, len, "get", 3);
    if (!gets && !(adds && number(message + 4, len - 4, &added))) {
        odeum_reply(EXPECTED, sizeof EXPECTED - 1);
        return 1;
    }
    char *end = text + sizeof text, *start = digits(count + added, end);
    if (adds) odeum_var_set(COUNT, sizeof COUNT - 1, start, (size_t)(end - start));
    odeum_reply(start, (size_t)(end - start));
    return 0;
}
