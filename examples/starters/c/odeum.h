/* What a guest of Odeum may ask of its host, and what it has: `odeum-actor-core`, version 1. */
#ifndef ODEUM_H
#define ODEUM_H

#include <stddef.h>

#define ODEUM_IMPORT(name) __attribute__((import_module("odeum"), import_name(#name))) extern
#define ODEUM_EXPORT(name) __attribute__((export_name(#name)))

/* How loud a line of the log is. */
enum odeum_level { ODEUM_ERROR, ODEUM_WARN, ODEUM_INFO, ODEUM_DEBUG, ODEUM_TRACE };

/* Codes of the functions below. */
enum odeum_code { ODEUM_MISSING = -1, ODEUM_NOT_A_NAME = -2 };

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

/* To be written by the guest. */

/* A place for a message of `len` bytes, or null when there is none. */
char *odeum_alloc(size_t len);
/* Handles one message: 0 commits it, anything else refuses it with the reply as the reason. */
int odeum_handle(const char *message, size_t len);

#endif
