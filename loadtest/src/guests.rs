//! Firmware that scenarios call, and how it comes to nodes.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _};
use odeum_proto::Name;
use odeum_runtime::api::client::{ApiClient, ApiError};
use odeum_runtime::api::types::{DeployOptions, FirmwareState};
use tokio::time::{Instant, sleep};

use crate::persist::persist;

/// Guests that are deployed or removed at a time: what a node takes.
const AT_ONCE: usize = 4;

/// How long guests may take until they run.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often is looked whether they do.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;

/// Pages before the place of a message, and of that: the largest there is.
const PAGES: u64 = 1 + 16;

/// The server of HTTP, whose `/echo` answers the body of the request.
pub(crate) const SERVER: &[u8] =
    include_bytes!("../../examples/guests/http-component/http-component.wasm");

/// The message that asks for the count and adds nothing.
pub(crate) const GET: &[u8] = b"g";

/// A message that counts, of so many bytes. All of them but [`GET`] do.
pub(crate) fn add(bytes: usize) -> Vec<u8> {
    vec![b'x'; bytes]
}

/// The count in a reply.
pub(crate) fn count_in(reply: &[u8]) -> Option<u64> {
    reply.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// A guest that counts messages of any size and replies the count, with a memory of so many bytes. Its
/// count is in a variable of the session, or in its memory alone. Those of another `version` are another
/// package that does the same.
pub(crate) fn counting(in_session: bool, memory: u64, version: u32) -> Vec<u8> {
    let pages = memory.div_ceil(PAGE).max(PAGES + 1);
    let (load, store) = if in_session {
        (
            // A variable that is not there leaves the place as it is.
            "(i64.store (i32.const 512) (i64.const 0))
             (drop (call $var_get (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 8)))",
            "(drop (call $var_set (i32.const 0) (i32.const 5) (i32.const 512) (i32.const 8)))",
        )
    } else {
        ("", "")
    };
    let imports = if in_session {
        r#"(import "odeum" "var_get" (func $var_get (param i32 i32 i32 i32) (result i32)))
           (import "odeum" "var_set" (func $var_set (param i32 i32 i32 i32) (result i32)))"#
    } else {
        ""
    };
    let text = format!(
        r#"(module
  {imports}
  (import "odeum" "reply" (func $reply (param i32 i32)))
  (memory (export "memory") {pages})
  (data (i32.const 0) "count")
  (data (i32.const 16) "version {version}")
  (func (export "odeum_alloc") (param i32) (result i32) (i32.const {PAGE}))
  (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
    {load}
    (if (i32.eqz (i32.and
          (i32.eq (local.get $len) (i32.const 1))
          (i32.eq (i32.load8_u (local.get $ptr)) (i32.const 103))))
      (then
        (i64.store (i32.const 512) (i64.add (i64.load (i32.const 512)) (i64.const 1)))
        {store}))
    (call $reply (i32.const 512) (i32.const 8))
    (i32.const 0)))"#
    );
    text.into_bytes()
}

/// Names with a number behind a prefix.
pub(crate) fn names(prefix: &str, count: usize) -> anyhow::Result<Vec<Name>> {
    (0..count).map(|number| Ok(format!("{prefix}-{number}").parse()?)).collect()
}

/// Deploys one package under several names, and waits until each runs.
///
/// # Errors
/// If one cannot be deployed or does not come to run.
pub(crate) async fn deploy(
    client: &ApiClient,
    names: &[Name],
    package: &[u8],
) -> anyhow::Result<()> {
    let begin = Instant::now();
    put(std::slice::from_ref(client), names, package, begin + PATIENCE).await?;
    loop {
        let all = client.firmware().await?;
        let runs = |name: &&Name| {
            all.iter().any(|it| it.name == **name && it.state == FirmwareState::Running)
        };
        let running = names.iter().filter(runs).count();
        if running == names.len() {
            return Ok(());
        }
        let all = names.len();
        anyhow::ensure!(begin.elapsed() < PATIENCE, "only {running} of {all} guests run");
        sleep(LOOK).await;
    }
}

/// Deploys one package under several names, or replaces what has these names. What the cluster is too busy
/// for is tried again until then: the same package twice is the same as once.
///
/// # Errors
/// If one cannot be deployed.
pub(crate) async fn put(
    clients: &[ApiClient],
    names: &[Name],
    package: &[u8],
    until: Instant,
) -> anyhow::Result<()> {
    let package = Bytes::copy_from_slice(package);
    // In groups, each name a future of its own: a stream of futures that borrow cannot be spawned.
    for some in names.chunks(AT_ONCE) {
        let puts = some.iter().map(|name| {
            persist(clients, until, |client| {
                let (name, package) = (name.clone(), package.clone());
                async move { client.put_firmware(&name, package, &DeployOptions::default()).await }
            })
        });
        try_join_all(puts).await?;
    }
    Ok(())
}

/// Removes guests. What cannot be removed stays.
///
/// # Errors
/// The first one.
pub(crate) async fn remove(client: &ApiClient, names: &[Name]) -> Result<(), ApiError> {
    let removed = stream::iter(names).map(|name| client.delete_firmware(name));
    let mut removed = removed.buffer_unordered(AT_ONCE);
    let mut result = Ok(());
    while let Some(done) = removed.next().await {
        result = result.and(done);
    }
    result
}
