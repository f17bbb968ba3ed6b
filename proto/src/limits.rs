//! Bounds on everything that comes from outside, each with its unit and its reason.
//!
//! They are checked before memory is reserved, so a lying length costs its sender the
//! connection and us nothing.

use std::time::Duration;

/// Longest name of a node, firmware, kind or variable namespace, in bytes. A DNS label may have
/// 63; half of it keeps names on one line of a table.
pub const NAME_BYTES: usize = 32;

/// Longest session name, entity key or variable key, in bytes.
pub const KEY_BYTES: usize = 128;

/// Longest session id, in bytes: the kind, the key and the name of a session, with the length of
/// the key in three digits and what separates them.
pub const SESSION_ID_BYTES: usize = NAME_BYTES + KEY_BYTES + KEY_BYTES + 6;

/// Longest idempotency key, in bytes: a UUID has 36, a URL-safe SHA-256 has 44.
pub const REQUEST_ID_BYTES: usize = 64;

/// Largest message to an entity and largest reply, in bytes. Larger things are blobs.
pub const MESSAGE_BYTES: usize = 1 << 20;

/// Largest value of one session variable, in bytes. A variable is rewritten whole through the
/// log, so this bounds what one message can make every replica write.
pub const VARIABLE_BYTES: usize = 256 << 10;

/// Most variables in one session.
pub const VARIABLES_PER_SESSION: usize = 4_096;

/// Most sessions in the store. All of them are in memory on every replica.
pub const SESSIONS: usize = 1_000_000;

/// Most variable writes that one message of a guest may make.
pub const WRITES_PER_MESSAGE: usize = 1_024;

/// Most requests that one commit tells of beside its own: those of a checkpoint.
pub const CARRIED_PER_COMMIT: usize = 1_024;

/// Largest sum of keys, values and replies in one commit, in bytes. A commit is one log entry, and an
/// entry with its envelope travels in one frame of [`FRAME_BYTES`].
pub const COMMIT_BYTES: usize = 3 << 20;

/// Most session data and remembered replies in one Raft group, in bytes with their overhead. All
/// of it is in one snapshot, which travels in one transfer of [`BULK_BYTES`].
pub const GROUP_BYTES: u64 = 192 << 20;

/// Most sessions, variables, programs and metadata that one operation list may touch: it is one log
/// entry, applied while nothing else is, and every refusal in it may have a line.
pub const OPERATIONS: usize = 1_024;

/// Most earlier values of a variable that are kept. They are in memory on every replica.
pub const HISTORY_DEPTH: u8 = 64;

/// Most entries of the metadata of one session or of one variable.
pub const METADATA_ENTRIES: usize = 64;

/// Longest value of an entry of metadata, in bytes. What is longer is a variable.
pub const METADATA_BYTES: usize = 1_024;

/// Most programs of one session.
pub const PROGRAMS_PER_SESSION: usize = 64;

/// Largest program of a session, in bytes: as a variable, it is rewritten whole.
pub const PROGRAM_BYTES: usize = VARIABLE_BYTES;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES: usize = 1_024;

/// Largest compiled pattern, in bytes. `^\w{1,64}$` has some 600 kB, since it knows the letters of
/// every script.
pub const COMPILED_PATTERN_BYTES: usize = 2 << 20;

/// Most compiled patterns that are kept, per group. Compiling one again takes under a millisecond.
pub const COMPILED_PATTERNS: usize = 64;

/// Most values that a constraint may list.
pub const ALLOWED_VALUES: usize = 256;

/// Most axes of a tensor. What is in use has up to 6.
pub const TENSOR_AXES: usize = 16;

/// Longest time to live of a session: ten years, beyond which "never" is meant.
pub const SESSION_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Most sessions that one log entry lets expire, so that a million of them at once hold up
/// nothing else for long.
pub const EXPIRED_PER_ENTRY: u32 = 1_024;

/// Changes that are kept for watchers, per group. At 1,000 writes a second a watcher may be away
/// for a minute.
pub const RING_CHANGES: usize = 65_536;

/// Bytes of the changes that are kept for watchers, per group. They are in every snapshot.
pub const RING_BYTES: u64 = 16 << 20;

/// How long the answer to a request with an idempotency key is remembered: longer than people and
/// programs retry.
pub const REQUEST_WINDOW: Duration = Duration::from_secs(600);

/// Most answers that a session remembers; the oldest leaves first.
pub const REQUESTS_PER_SESSION: usize = 256;

/// Most commands of one node that may be outstanding in one group. Their outcomes are in memory on
/// every replica until the node says that it has them.
pub const OUTSTANDING_PER_CLIENT: usize = 8_192;

/// How long a node must have been silent before another one may take its place in a full table of
/// clients: longer than any deadline of a command.
pub const CLIENT_IDLE: Duration = Duration::from_secs(600);

/// Most entities that a data group knows the epochs of.
pub const ENTITIES: usize = 1_000_000;

/// Most firmwares of a cluster. Every node knows and plans all of them.
pub const FIRMWARES: usize = 1_024;

/// Most replicas of one firmware. Each is an instance with sessions of its own, and what each should
/// run during an update is in the memory of every node.
pub const REPLICAS: u32 = 128;

/// Most replicas of all firmwares together. Every node knows and plans all of them, and may have to
/// run them.
pub const ALL_REPLICAS: usize = 8_192;

/// Most nodes that a firmware names to run on. What is deployed is in the memory of all nodes; more of them
/// have a label in common.
pub const NODES_PER_FIRMWARE: usize = 64;

/// Most others that a firmware names to be apart from: with each replica that is placed it is looked where
/// all of them are.
pub const APART_PER_FIRMWARE: usize = 64;

/// Most shards of a kind. A node takes over a shard at a time, and every node knows where all of
/// them are: 4,096 are four for each of the most [`NODES`], and 50 kB in the largest log entry.
pub const SHARDS_PER_KIND: u16 = 4_096;

/// Most kinds of a cluster, those that a program had once included. With the most shards each,
/// their table has 10 MB in a snapshot.
pub const KINDS: usize = 256;

/// Most labels of a node. The record of each node is in the memory of all.
pub const LABELS_PER_NODE: usize = 32;

/// Longest key or value of a label and longest zone, in bytes: a DNS label has 63.
pub const LABEL_BYTES: usize = 64;

/// Longest version text of a binary, in bytes: `major.minor.patch` with a commit hash behind it.
pub const VERSION_BYTES: usize = 64;

/// Requests whose replies are remembered per entity, however old they are, so that a retry is
/// answered instead of repeated: every caller with fewer than this many calls in flight is covered
/// for as long as it takes. In memory, replies of more than 900 bytes on average push out some of
/// them: [`DEDUPLICATION_BYTES`] is the bound of all there.
pub const DEDUPLICATION_WINDOW: usize = 4_096;

/// How long a request is remembered at least, however many came after it, as long as the window has
/// no more than [`DEDUPLICATION_BYTES`]: longer than a caller waits before it tries again, and than
/// another node takes to go on for one that was lost.
pub const DEDUPLICATION_TIME: Duration = Duration::from_secs(10);

/// Largest deduplication window of one entity, in bytes: of more than 3,000 calls a second with small
/// replies for [`DEDUPLICATION_TIME`]. In the store [`DEDUPLICATION_WINDOW`] requests stay whatever they
/// have.
pub const DEDUPLICATION_BYTES: usize = 4 << 20;

/// Largest remembered reply in the deduplication window, in bytes. A larger reply is
/// acknowledged once; its retry is answered with `ReplyForgotten` instead of being repeated.
pub const REMEMBERED_REPLY_BYTES: usize = 4 << 10;

/// Most that an entity of a program's own kind may have in memory to move with its shard, in bytes: with
/// its remembered replies it travels in one transfer of [`BULK_BYTES`].
pub const ENTITY_STATE_BYTES: usize = 64 << 20;

/// Largest frame on the control, consensus and lane classes, in bytes: a batch of messages of
/// [`MESSAGE_BYTES`] with room for their envelopes.
pub const FRAME_BYTES: usize = 4 << 20;

/// Largest transfer on the bulk class, in bytes: a package, a snapshot.
pub const BULK_BYTES: usize = 256 << 20;

/// Largest firmware package, in bytes: the largest tool compiled to WebAssembly that is in use has
/// 69 MB, and a package is in memory as a whole while it is checked.
pub const PACKAGE_BYTES: usize = 128 << 20;

/// Most files of a package: the library of an interpreter has some 2,000.
pub const PACKAGE_FILES: usize = 4_096;

/// Largest index of a package, in bytes: that of the most [`PACKAGE_FILES`] with the longest paths.
pub const PACKAGE_INDEX_BYTES: usize = 1 << 20;

/// Most signatures of a package: who built it, who tested it, who runs it.
pub const PACKAGE_SIGNATURES: usize = 16;

/// Largest manifest of a package, in bytes: a screenful has 2 kB.
pub const MANIFEST_BYTES: usize = 64 << 10;

/// Longest argument or value in a manifest, in bytes.
pub const MANIFEST_TEXT_BYTES: usize = 4 << 10;

/// Longest path of a file in a package, in bytes: what the oldest header of a tar file has room for.
pub const PACKAGE_PATH_BYTES: usize = 100;

/// Largest blob, in bytes: with its envelope it travels in one transfer of [`BULK_BYTES`].
pub const BLOB_BYTES: usize = BULK_BYTES - (1 << 10);

/// Most blobs of a cluster. Every replica has the index of them in memory: a row with two holders
/// and one owner has some 200 bytes, so all of them 13 MB.
pub const BLOBS: usize = 65_536;

/// Most owners of one blob: all firmware of a cluster may run the same package.
pub const OWNERS_PER_BLOB: usize = FIRMWARES;

/// Most owners of all blobs together, each counted once per blob that it owns: two for each of the
/// most [`BLOBS`]. Their names have 26 MB at most.
pub const BLOB_OWNERS: usize = 2 * BLOBS;

/// Longest name of a blob's owner, in bytes: a word, a slash, and the id of an entity.
pub const OWNER_BYTES: usize = NAME_BYTES + 1 + NAME_BYTES + 1 + KEY_BYTES;

/// Most nodes that hold one blob. A few are safe; more are for a cluster that wants it everywhere.
pub const HOLDERS_PER_BLOB: usize = 16;

/// Largest datagram, in bytes: what QUIC always carries in one packet, so that a probe is never
/// refused for its size before path MTU discovery is done.
pub const DATAGRAM_BYTES: usize = 1_150;

/// Most topics that a node has subscribers of. Every peer keeps their names, so that it sends
/// nothing nobody wants: with names of 32 bytes some 10 MB for each node.
pub const TOPICS: usize = 100_000;

/// Most nodes of a cluster in one roster message.
pub const NODES: usize = 1_024;

/// Longest lease of a node. What is placed on a node that has died is active nowhere until its
/// lease is over.
pub const LEASE_TTL: Duration = Duration::from_secs(60);

/// Most node ids that a cluster ever sees. A removed node's id is remembered for good, because
/// Raft must never meet it again on another disk.
pub const NODE_IDS_EVER: usize = 65_536;

/// Most groups of sessions of a cluster. Each has a heartbeat of its own: 64 of them cost a node
/// some percent of a core when nothing happens.
pub const DATA_GROUPS: u16 = 64;
