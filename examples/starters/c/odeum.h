/* What a guest of Odeum may ask of its host, and what it has: `odeum-actor-core`, version 1. */
#ifndef ODEUM_H
#define ODEUM_H

#include <stddef.h>
#include <stdint.h>

#define ODEUM_IMPORT(name) __attribute__((import_module("odeum"), import_name(#name))) extern
#define ODEUM_EXPORT(name) __attribute__((export_name(#name)))

/* How loud a line of the log is. */
enum odeum_level { ODEUM_ERROR, ODEUM_WARN, ODEUM_INFO, ODEUM_DEBUG, ODEUM_TRACE };

/* Codes of the functions below. */
enum odeum_code {
    ODEUM_MISSING = -1,
    ODEUM_NOT_A_NAME = -2,
    ODEUM_TOO_MUCH = -3,
    /* The manifest does not grant it. The log has the line that would. */
    ODEUM_DENIED = -4,
    /* What was asked has no reply. */
    ODEUM_FAILED = -5
};

/* Copies a variable of the session of the message at hand to `into`, if it has at most `capacity`
 * bytes; its length, or a code. */
ODEUM_IMPORT(var_get) int odeum_var_get(const char *key, size_t key_len, char *into, size_t capacity);
/* Sets a variable, when the message is committed; 0, or a code. */
ODEUM_IMPORT(var_set) int odeum_var_set(const char *key, size_t key_len, const char *value, size_t len);
/* Removes a variable, when the message is committed; 0, or a code. */
ODEUM_IMPORT(var_delete) int odeum_var_delete(const char *key, size_t key_len);
/* Sets the reply; the last one wins. */
ODEUM_IMPORT(reply) void odeum_reply(const char *body, size_t len);
/* A line of the node's log. */
ODEUM_IMPORT(log) void odeum_log(enum odeum_level level, const char *text, size_t len);

/* The name of this firmware, copied as by `odeum_var_get`. */
ODEUM_IMPORT(firmware) int odeum_firmware(char *into, size_t capacity);
/* A value of the manifest's `[environment]`, copied as by `odeum_var_get`. */
ODEUM_IMPORT(config) int odeum_config(const char *key, size_t key_len, char *into, size_t capacity);
/* Sends a message to another firmware, when the message at hand is committed; 0, or a code. Needs
 * `messages`. */
ODEUM_IMPORT(tell) int odeum_tell(const char *to, size_t to_len, const char *body, size_t len);
/* As `odeum_tell`; what comes back is a later `odeum_on_answer` with the number that is given. */
ODEUM_IMPORT(ask) int64_t odeum_ask(const char *to, size_t to_len, const char *body, size_t len,
                                    uint32_t deadline_ms);
/* Has `odeum_on_timer` called with the number that is given, once. */
ODEUM_IMPORT(set_timer) int64_t odeum_set_timer(uint64_t after_ms);
/* Takes a timer back; 0, or a code. */
ODEUM_IMPORT(cancel_timer) int odeum_cancel_timer(int64_t timer);
/* Random bytes, at most 64 KiB; 0, or a code. Needs `random = true`. */
ODEUM_IMPORT(random) int odeum_random(char *into, size_t len);
/* Milliseconds since 1970-01-01, or a code. Needs `clock = true`. */
ODEUM_IMPORT(now) int64_t odeum_now(void);
/* Nanoseconds that the instance has lived, or a code. Needs `clock = true`. */
ODEUM_IMPORT(monotonic) int64_t odeum_monotonic(void);
/* Publishes to all subscribers in the cluster, when the message at hand is committed; 0, or a code.
 * Needs `publish`. */
ODEUM_IMPORT(publish) int odeum_publish(const char *topic, size_t topic_len, const char *payload,
                                        size_t len);
/* What is published under a topic is an `odeum_on_published` from then on; 0, or a code. Needs
 * `subscribe`. */
ODEUM_IMPORT(subscribe) int odeum_subscribe(const char *topic, size_t topic_len);

/* To be written by the guest. */

/* A place for a message of `len` bytes, or null when there is none. */
char *odeum_alloc(size_t len);
/* Handles one message: 0 commits it, anything else refuses it with the reply as the reason. */
int odeum_handle(const char *message, size_t len);

/* What it may have besides, each with `ODEUM_EXPORT`; the results are as those of `odeum_handle`. */

/* Told first in a new instance. */
int odeum_on_start(void);
/* A timer has run out. */
int odeum_on_timer(int64_t timer);
/* An ask has its outcome: the reply, or with `ODEUM_FAILED` the reason why there is none. */
int odeum_on_answer(int64_t number, int code, const char *body, size_t len);
/* Something was published under a topic of its own. */
int odeum_on_published(const char *topic, size_t topic_len, const char *payload, size_t len);
/* Called last; what it does is dropped. */
void odeum_on_stop(void);

#endif
