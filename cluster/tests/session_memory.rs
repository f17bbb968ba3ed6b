//! What sessions cost: memory per variable, and the time in which a large state is copied,
//! written and read.
//!
//! A million variables, with times that mean something:
//!
//! ```text
//! ODEUM_SESSIONS=100000 cargo test --release -p odeum-cluster --test session_memory -- --nocapture
//! ```

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use odeum_cluster::store::Data;
use odeum_proto::session::{DataAction, DataOutcome, Operation, SessionSettings, Value};
use odeum_proto::{LogTime, Revision, SessionId, codec};

/// The system's allocator, with what an allocation really takes counted: glibc's blocks have 8
/// bytes of their own, come in steps of 16 and have at least 32.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

fn block(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

#[expect(unsafe_code, reason = "an allocator that counts cannot be written without")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(block(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(block(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VARIABLES_PER_SESSION: usize = 10;

/// Sessions of ten variables with names of 16 bytes and values of 8, each written as a user does.
fn fill(sessions: usize) -> Data {
    let mut data = Data::default();
    let mut revision = 0;
    let mut run = |action: DataAction| {
        revision += 1;
        let outcome = data.apply(Revision(revision), LogTime(revision), &action.into());
        assert!(!matches!(outcome, DataOutcome::Refused(_)), "{outcome:?}");
    };
    for n in 0..sessions {
        let session: SessionId = format!("session-{n:08}").parse().expect("valid");
        // Half of them have a time to live, which has an index.
        let ttl = (n % 2 == 0).then_some(Duration::from_secs(3_600));
        let settings = SessionSettings { ttl, ..SessionSettings::default() };
        run(DataAction::CreateSession { session: session.clone(), settings });
        for k in 0..VARIABLES_PER_SESSION {
            let (key, value) = (format!("variable-{k:07}").into(), Value::Float(n as f64));
            let operation = Operation::Set { key, value, expected: None, register: true };
            run(DataAction::Operate { session: session.clone(), operation });
        }
    }
    data
}

#[test]
fn a_small_variable_costs_at_most_500_bytes_with_all_that_is_kept_for_it() {
    let sessions = std::env::var("ODEUM_SESSIONS").ok().and_then(|n| n.parse().ok());
    // Enough that what is kept per group, the ring of changes, does not outweigh the rest.
    let sessions = sessions.unwrap_or(20_000);
    let variables = sessions * VARIABLES_PER_SESSION;

    let before = BYTES.load(Ordering::Relaxed);
    let began = Instant::now();
    let data = fill(sessions);
    let applied = began.elapsed();
    let each = (BYTES.load(Ordering::Relaxed) - before) / variables;

    let began = Instant::now();
    let snapshot = data.snapshot();
    let copied = began.elapsed();
    let began = Instant::now();
    let bytes = codec::encode(&snapshot).expect("encodes");
    let written = began.elapsed();
    drop(snapshot);
    let began = Instant::now();
    let read: Data = codec::decode(&bytes).expect("decodes");
    let decoded = began.elapsed();

    println!(
        "{variables} variables in {sessions} sessions: {each} B in memory and {} B in a snapshot \
         for each; {:.2} µs per command; copied in {copied:.2?}, written in {written:.2?}, read \
         in {decoded:.2?}",
        bytes.len() / variables,
        applied.as_secs_f64() * 1e6 / (variables + sessions) as f64,
    );
    assert!(read == data);
    assert!(each <= 500, "{each} bytes");
}
